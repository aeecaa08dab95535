import EbbProtocol
import Engine
import Governor
import ModelFormat
import Text

/// A loaded model as the connections see it: what turns text into tokens, without the engine thread.
struct LoadedModel: Sendable {
    let name: String
    let tokenizer: Tokenizer
    let template: ChatTemplate?
    let contextLimit: Int
    let isEncoder: Bool

    /// - Throws: ``ServiceError`` where an encoder is asked for text, or a decoder for embeddings.
    func demand(encoder: Bool) throws {
        guard isEncoder != encoder else { return }
        let what = isEncoder ? "an encoder: it makes embeddings, not text" : "a decoder: it makes text, not embeddings"
        throw ServiceError(.badRequest, "\(name) is \(what)")
    }
}

/// Which models there are, and which are loaded. Models are loaded by request or by their first use; several requests
/// that need the same model wait for one load.
actor ModelRegistry {
    private let store: ModelStore
    private let thread: EngineThread
    private let pool: WorkerPool
    private let kernels: Kernels
    private let options: ModelOptions
    private let defaultWish: ModelState.Wish
    private var loads: [String: Task<LoadedModel, any Error>] = [:]

    init(
        store: ModelStore, thread: EngineThread, pool: WorkerPool, kernels: Kernels, options: ModelOptions,
        defaultWish: ModelState.Wish
    ) {
        self.store = store
        self.thread = thread
        self.pool = pool
        self.kernels = kernels
        self.options = options
        self.defaultWish = defaultWish
    }

    /// Hands a model from the task that loaded it to the engine thread.
    ///
    /// @unchecked Sendable: made by one task and given away at once; that task keeps nothing of it.
    private struct Handover: @unchecked Sendable {
        let model: HostedModel
    }

    /// The model of that name, loaded.
    /// - Throws: ``ServiceError``.
    func require(_ name: String) async throws -> LoadedModel {
        if let load = loads[name] { return try await load.value }
        let load = Task { [store, thread, pool, kernels, options, defaultWish] in
            guard store.names().contains(name) else {
                let known = store.names()
                let hint = known.isEmpty ? "none is imported yet" : "there are " + known.joined(separator: ", ")
                throw ServiceError(.unknownModel, "no model is named \"\(name)\": \(hint)")
            }
            let (loaded, handover): (LoadedModel, Handover)
            do {
                let file = try store.open(name)
                (loaded, handover) =
                    EncoderModel.isEncoder(file)
                    ? Self.host(
                        name, try EncoderModel(file, pool: pool, kernels: kernels, precision: options.precision),
                        defaultWish)
                    : Self.host(
                        name, try DecoderModel(file, pool: pool, kernels: kernels, options: options), defaultWish)
            } catch {
                throw ServiceError(.modelUnusable, "\(error)")
            }
            try await thread.perform { core in core.add(handover.model) }
            return loaded
        }
        loads[name] = load
        do {
            return try await load.value
        } catch {
            loads[name] = nil
            throw error
        }
    }

    private static func host(
        _ name: String, _ model: DecoderModel, _ wish: ModelState.Wish
    ) -> (LoadedModel, Handover) {
        (
            LoadedModel(
                name: name, tokenizer: model.tokenizer, template: model.template, contextLimit: model.contextLimit,
                isEncoder: false), Handover(model: HostedDecoder(name: name, decoder: model, wish: wish))
        )
    }

    private static func host(
        _ name: String, _ model: EncoderModel, _ wish: ModelState.Wish
    ) -> (LoadedModel, Handover) {
        (
            LoadedModel(
                name: name, tokenizer: model.tokenizer, template: nil, contextLimit: model.contextLimit,
                isEncoder: true), Handover(model: HostedEncoder(name: name, encoder: model, wish: wish))
        )
    }

    func unload(_ name: String) async throws {
        guard let load = loads[name] else { throw ServiceError(.unknownModel, "\(name) is not loaded") }
        _ = try await load.value
        loads[name] = nil
        try await thread.perform { try $0.remove(name) }
    }

    /// All models of the folder.
    func list() -> [EbbModel] {
        store.names().map { name in
            var model = EbbModel()
            model.name = name
            model.loaded = loads[name] != nil
            do {
                let file = try store.open(name)
                model.fileBytes = UInt64(file.byteCount)
                model.architecture = file.metadata.string("general.architecture") ?? ""
            } catch {
                model.error = "\(error)"
            }
            return model
        }
    }
}
