import Engine
import Governor
import ModelFormat
import Text

/// Makes a model out of a file: on the ``TextPool``'s file lane, admitted by the engine thread before each step that takes
/// memory.
struct ModelLoader: Sendable {
    let catalog: ModelCatalog
    let thread: EngineThread
    let texts: TextPool
    let workers: WorkerPool
    let configuration: ServiceConfiguration
    let state: StateFolder
    /// Has the engine told of how scarce memory is now.
    let lookAtPressure: @Sendable () async -> Void

    /// A model for the connections, and the same for the engine thread.
    ///
    /// @unchecked Sendable: made by one job and given away at once; that job keeps nothing of it.
    struct Built: @unchecked Sendable {
        let loaded: LoadedModel
        let hosted: HostedModel
        /// Names all that the figures of the modes depend on.
        let costsKey: String
    }

    /// Loading costs as much of a turn as so many other jobs of the lane.
    private static let cost = 8

    /// - Parameter isSuspect: the file's checksums are compared first.
    /// - Throws: ``ServiceError``.
    func load(_ name: String, _ origin: RequestOrigin, isSuspect: Bool = false) async throws -> Built {
        // One client's deadline is not the others'.
        var origin = origin
        origin.deadline = nil
        let file = try await texts.run(.files, origin, cost: 1) { _ in try catalog.open(name) }
        await lookAtPressure()
        // What a mapping and its tables take is little; the buffers are known once they are laid out, before a page of
        // them is used.
        try await admit(name, anonymous: 0, mapped: file.byteCount)
        let built = try await texts.run(.files, origin, cost: Self.cost) { _ in
            do {
                if isSuspect { try file.verify() }
                return try build(name, file)
            } catch { throw ServiceError.unusable(error) }
        }
        try await admit(name, anonymous: built.hosted.model.scratchBytes, mapped: file.byteCount)
        return built
    }

    private func admit(_ name: String, anonymous: Int, mapped: Int) async throws {
        let verdict = try await thread.perform { core in
            core.memory.admission().verdictOnLoad(name, anonymous: anonymous, mapped: mapped)
        }
        guard case .refused(let why, let isLasting) = verdict else { return }
        throw ServiceError.noMemory(why, isLasting: isLasting, retryAfter: 5000)
    }

    private func build(_ name: String, _ file: EbbFile) throws -> Built {
        let (options, kernels) = (configuration.model, configuration.kernels)
        let (wish, choice) = (configuration.defaultWish, state.choice(name))
        let key = costsKey(name, byteCount: file.byteCount, modified: file.modified)
        let (loaded, hosted): (LoadedModel, HostedModel)
        if EncoderModel.isEncoder(file) {
            let model = try EncoderModel(file, pool: workers, kernels: kernels, precision: options.precision)
            loaded = LoadedModel(
                name: name, text: ModelText(file.metadata, model.tokenizer), contextLimit: model.contextLimit,
                encoder: EncoderTraits(model))
            hosted = HostedEncoder(name: name, encoder: model, wish: wish, choice: choice)
        } else {
            let model = try DecoderModel(file, pool: workers, kernels: kernels, options: options)
            loaded = LoadedModel(
                name: name, text: ModelText(file.metadata, model.tokenizer), contextLimit: model.contextLimit,
                encoder: nil)
            hosted = HostedDecoder(
                name: name, decoder: model, wish: wish, choice: choice, prefixBytes: configuration.prefixBytes,
                limits: configuration.limits)
        }
        hosted.costs = state.costs(key)
        return Built(loaded: loaded, hosted: hosted, costsKey: key)
    }

    func costsKey(_ name: String, byteCount: Int, modified: Int) -> String {
        "\(name) \(byteCount) \(modified) \(configuration.kernels.name)"
    }
}
