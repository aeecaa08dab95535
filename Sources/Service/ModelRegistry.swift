import Dispatch
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
    private let configuration: ServiceConfiguration
    private let state: StateFolder
    private var loads: [String: Task<LoadedModel, any Error>] = [:]

    init(
        store: ModelStore, thread: EngineThread, pool: WorkerPool, configuration: ServiceConfiguration,
        state: StateFolder
    ) {
        self.store = store
        self.thread = thread
        self.pool = pool
        self.configuration = configuration
        self.state = state
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
        let load = Task { try await self.load(name) }
        loads[name] = load
        do {
            return try await load.value
        } catch {
            loads[name] = nil
            throw error
        }
    }

    private func names() throws -> [String] {
        do { return try store.names() } catch { throw ServiceError(.internal, "\(error)", retryAfter: 1000) }
    }

    private func demandKnown(_ name: String) throws {
        let known = try names()
        guard !known.contains(name) else { return }
        let hint = known.isEmpty ? "none is imported yet" : "there are " + known.joined(separator: ", ")
        throw ServiceError(.unknownModel, "no model is named \"\(name)\": \(hint)")
    }

    private func load(_ name: String) async throws -> LoadedModel {
        try demandKnown(name)
        let (file, hosted): (EbbFile, Handover)
        do {
            file = try store.open(name)
        } catch {
            throw ServiceError(.modelUnusable, "\(error)")
        }
        // What a mapping and its tables take is little; the buffers are known once they are laid out, before a page of
        // them is used.
        try await admit(name, anonymous: 0, mapped: file.byteCount)
        let loaded: LoadedModel
        do {
            (loaded, hosted) = try host(name, file)
        } catch {
            throw ServiceError(.modelUnusable, "\(error)")
        }
        try await admit(name, anonymous: hosted.model.model.scratchBytes, mapped: file.byteCount)
        let key = costsKey(name, file)
        hosted.model.costs = state.costs(key)
        let isMeasured = hosted.model.costs != nil
        try await thread.perform { core in core.add(hosted.model) }
        if configuration.probesModes, !isMeasured { probe(name, key) }
        return loaded
    }

    private func admit(_ name: String, anonymous: Int, mapped: Int) async throws {
        let verdict = try await thread.perform { core in
            core.residency.admission(core.models).verdictOnLoad(name, anonymous: anonymous, mapped: mapped)
        }
        if case .refused(let why) = verdict { throw ServiceError(.outOfMemory, why, retryAfter: 5000) }
    }

    private func host(_ name: String, _ file: EbbFile) throws -> (LoadedModel, Handover) {
        let (options, kernels) = (configuration.model, configuration.kernels)
        let (wish, choice) = (configuration.defaultWish, state.choice(name))
        if EncoderModel.isEncoder(file) {
            let model = try EncoderModel(file, pool: pool, kernels: kernels, precision: options.precision)
            let loaded = LoadedModel(
                name: name, tokenizer: model.tokenizer, template: nil, contextLimit: model.contextLimit, isEncoder: true
            )
            return (loaded, Handover(model: HostedEncoder(name: name, encoder: model, wish: wish, choice: choice)))
        }
        let model = try DecoderModel(file, pool: pool, kernels: kernels, options: options)
        let loaded = LoadedModel(
            name: name, tokenizer: model.tokenizer, template: model.template, contextLimit: model.contextLimit,
            isEncoder: false)
        let hosted = HostedDecoder(
            name: name, decoder: model, wish: wish, choice: choice, prefixBytes: configuration.prefixBytes)
        return (loaded, Handover(model: hosted))
    }

    // MARK: What the modes cost

    /// Names all that the figures depend on.
    private func costsKey(_ name: String, _ file: EbbFile) -> String {
        "\(name) \(file.byteCount) \(file.modified) \(configuration.kernels.name)"
    }

    /// Measures beside what is running, on one thread, with a model of its own on the same pages.
    private func probe(_ name: String, _ key: String) {
        let (configuration, store, state, thread) = (configuration, store, state, thread)
        Task {
            // Requests come first: the probe would take a thread from them.
            for _ in 0..<60 {
                try await Task.sleep(for: .seconds(1))
                if try await thread.perform({ $0.activeRequests }) == 0 { break }
            }
            let admission = try await thread.perform { $0.residency.admission($0.models) }
            guard admission.level == .nominal else { return }
            let most = max(0, admission.available - admission.policy.reserve) / 2
            // A thread of its own: those of the connections must not wait for arithmetic.
            DispatchQueue.global(qos: .utility).async {
                guard let costs = try? Self.measure(name, store, configuration, mostBytes: most) else { return }
                state.set(costs, of: key)
                thread.post { core in core.model(name)?.costs = costs }
            }
        }
    }

    private static func measure(
        _ name: String, _ store: ModelStore, _ configuration: ServiceConfiguration, mostBytes: Int
    ) throws -> ModeCosts {
        let file = try store.open(name)
        let pool = try WorkerPool(threads: 1)
        if EncoderModel.isEncoder(file) {
            let model = try EncoderModel(file, pool: pool, kernels: configuration.kernels)
            return try ModeProbe.run(model, mostBytes: mostBytes)
        }
        var options = configuration.model
        (options.contextLimit, options.sequences) = (256, 1)
        let model = try DecoderModel(file, pool: pool, kernels: configuration.kernels, options: options)
        return try ModeProbe.run(model, mostBytes: mostBytes)
    }

    // MARK: Unloading and listing

    func unload(_ name: String) async throws {
        guard let load = loads[name] else { throw ServiceError(.unknownModel, "\(name) is not loaded") }
        _ = try await load.value
        loads[name] = nil
        try await thread.perform { try $0.remove(name) }
    }

    /// The engine has lost a model: the next request loads it anew.
    func forget(_ name: String) { loads[name] = nil }

    /// Sets what is asked for a model, loaded or not, and keeps it.
    func prefer(_ name: String, _ change: (inout StateFolder.Choice) -> Void) throws {
        try demandKnown(name)
        var choice = state.choice(name)
        change(&choice)
        let new = choice
        thread.post { core in
            core.model(name)?.choice = new
            core.residency.govern(core.models)
        }
        try state.set(choice, of: name)
    }

    /// All models of the folder.
    /// - Throws: ``ServiceError`` where it cannot be read.
    func list() throws -> [EbbModel] {
        try names().map { name in
            var model = EbbModel()
            model.name = name
            model.loaded = loads[name] != nil
            let choice = state.choice(name)
            model.preference = choice.preference.protocolPreference
            model.priority = Int32(clamping: choice.priority)
            do {
                let file = try store.open(name)
                model.fileBytes = UInt64(file.byteCount)
                model.architecture = file.metadata.string("general.architecture") ?? ""
                if let costs = state.costs(costsKey(name, file)) { model.costs = EbbModeCosts(costs) }
            } catch {
                model.error = "\(error)"
            }
            return model
        }
    }
}
