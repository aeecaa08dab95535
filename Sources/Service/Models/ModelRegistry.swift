import EbbProtocol
import Engine
import Governor
import ModelFormat
import Text

/// Which models are loaded, and being loaded. Models are loaded by request or by their first use; several requests that
/// need the same model wait for one load, which no client's going ends. The actor itself never waits for a disk.
actor ModelRegistry {
    private struct Load {
        let number: UInt64
        let promise: Promise<LoadedModel>
        /// The user that it counts for; nil where it counts for none.
        let uid: UInt32?
        var work: Task<Void, Never>?
    }

    private struct Entry {
        let model: LoadedModel
        /// Of its load.
        let number: UInt64
        /// Models that the engine had lost when it was last known to have this one.
        var losses: Int
    }

    private let catalog: ModelCatalog
    private let loader: ModelLoader
    private let probe: ModelProbe
    private let thread: EngineThread
    private let texts: TextPool
    private let access: AccessControl
    private let configuration: ServiceConfiguration
    private let state: StateFolder
    private var models: [String: Entry] = [:]
    private var loads: [String: Load] = [:]
    /// Models whose file was found to be another than it was: all of its bytes are looked at before it is used again.
    private var suspects: Set<String> = []
    private var lastLoad: UInt64 = 0
    /// Loads that have not ended, forsaken ones included.
    private var loading = 0
    private var rate = LoadRate()

    /// Loads at once; one more is refused.
    private static let mostLoads = 8

    init(
        store: ModelStore, thread: EngineThread, texts: TextPool, workers: WorkerPool, access: AccessControl,
        configuration: ServiceConfiguration, state: StateFolder, lookAtPressure: @escaping @Sendable () async -> Void
    ) {
        catalog = ModelCatalog(store)
        loader = ModelLoader(
            catalog: catalog, thread: thread, texts: texts, workers: workers, configuration: configuration,
            state: state, lookAtPressure: lookAtPressure)
        probe = ModelProbe(store: store, thread: thread, configuration: configuration, state: state)
        self.thread = thread
        self.texts = texts
        self.access = access
        self.configuration = configuration
        self.state = state
    }

    /// The model of that name, loaded.
    /// - Parameter peer: who asks; nil for the daemon itself. Who may not control may have so many loaded in a minute.
    /// - Throws: ``ServiceError``; waiting ends with the task's cancellation or the origin's deadline, the load does not.
    func require(_ name: String, _ origin: RequestOrigin, peer: Peer? = nil) async throws -> LoadedModel {
        await verify(name)
        if let entry = models[name] { return entry.model }
        let load = try loads[name] ?? begin(name, origin, peer)
        return try await load.promise.value(by: origin.deadline)
    }

    /// Lets go of a model that the engine has no more. Has the engine look at the models' files first where it has not of
    /// late, as while nobody asks for anything: one that was replaced meanwhile is to be loaded anew.
    private func verify(_ name: String) async {
        guard let entry = models[name] else { return }
        let isSeen = MonotonicClock.now() - thread.filesSeen.at < EngineCore.fileInterval
        let losses = thread.losses.load(ordering: .sequentiallyConsistent)
        guard !isSeen || losses != entry.losses else { return }
        let isThere = try? await thread.perform { core in
            core.lookAtFiles()
            return core.model(name) != nil
        }
        // Meanwhile it may have been loaded anew.
        guard models[name]?.number == entry.number else { return }
        guard isThere == false else {
            models[name]?.losses = losses
            return
        }
        models[name] = nil
        suspects.insert(name)
    }

    private func begin(_ name: String, _ origin: RequestOrigin, _ peer: Peer?) throws -> Load {
        guard loading < Self.mostLoads else {
            throw ServiceError(.overloaded, "\(loading) models are being loaded", retryAfter: 1000)
        }
        let uid = peer.flatMap { access.mayControl($0) ? nil : $0.uid }
        if let uid, let wait = rate.admit(uid, now: MonotonicClock.now()) {
            throw ServiceError(
                .overloaded, "uid \(uid) has had \(LoadRate.most) models loaded in a minute",
                retryAfter: UInt32(clamping: Int(wait.rounded(.up)) * 1000))
        }
        lastLoad += 1
        let load = Load(number: lastLoad, promise: Promise(), uid: uid)
        loads[name] = load
        loading += 1
        // A task of its own: the client that asked first may go.
        loads[name]?.work = Task { await carryOut(load, name, origin) }
        return load
    }

    private func carryOut(_ load: Load, _ name: String, _ origin: RequestOrigin) async {
        let answer: Result<LoadedModel, any Error>
        do {
            let built = try await loader.load(name, origin, isSuspect: suspects.contains(name))
            suspects.remove(name)
            answer = .success(try install(built, load))
        } catch {
            let error = ServiceError.of(error)
            if error.code == .unknownModel, let uid = load.uid { rate.forgive(uid) }
            answer = .failure(error)
        }
        loading -= 1
        if loads[name]?.number == load.number { loads[name] = nil }
        load.promise.keep(answer)
    }

    /// Gives a model to the engine. What is said to the engine here and in ``unload(_:)`` comes to it in the same order.
    private func install(_ built: ModelLoader.Built, _ load: Load) throws -> LoadedModel {
        let name = built.loaded.name
        guard loads[name]?.number == load.number else { throw Self.unloaded(name) }
        let losses = thread.losses.load(ordering: .sequentiallyConsistent)
        let accepted = thread.post { core in
            // Lost by the engine, and not yet forgotten here.
            if core.model(name) != nil { try? core.remove(name, reason: "it is loaded anew") }
            core.add(built.hosted)
        }
        guard accepted else { throw ServiceError.shuttingDown }
        models[name] = Entry(model: built.loaded, number: load.number, losses: losses)
        if configuration.probesModes, built.hosted.costs == nil { probe.start(name, costsKey: built.costsKey) }
        return built.loaded
    }

    private static func unloaded(_ name: String) -> ServiceError {
        ServiceError(.modelUnusable, "\(name) was unloaded while it was being loaded", retryAfter: 100)
    }

    /// What turns texts into a model's tokens. Nothing is loaded for it.
    func text(_ name: String, _ origin: RequestOrigin) async throws -> ModelText {
        if let entry = models[name] { return entry.model.text }
        return try await texts.run(.files, origin, cost: 1) { [catalog] _ in try catalog.text(name) }
    }

    /// Unloads a model, or ends the wait for one that is being loaded.
    /// - Throws: ``ServiceError``: UNKNOWN_MODEL where there is none of that name, BAD_REQUEST where it is not loaded.
    func unload(_ name: String, _ origin: RequestOrigin) async throws {
        if let load = loads.removeValue(forKey: name) {
            load.promise.keep(.failure(Self.unloaded(name)))
            load.work?.cancel()
            return
        }
        guard models.removeValue(forKey: name) != nil else {
            try await texts.run(.files, origin, cost: 1) { [catalog] _ in _ = try catalog.demandKnown(name) }
            throw ServiceError(.badRequest, "\(name) is not loaded")
        }
        // Where the engine has lost it meanwhile, so much the better.
        thread.post { try? $0.remove(name) }
        try await thread.perform { _ in }
    }

    /// The engine has lost a model: the next request loads it anew.
    func forget(_ name: String) async { await verify(name) }

    /// Sets what is asked for a model, loaded or not, and keeps it.
    func prefer(
        _ name: String, _ origin: RequestOrigin, _ change: (inout StateFolder.Choice) -> Void
    ) async throws {
        try await texts.run(.files, origin, cost: 1) { [catalog] _ in _ = try catalog.demandKnown(name) }
        var choice = state.choice(name)
        change(&choice)
        let new = choice
        thread.post { core in
            core.model(name)?.choice = new
            core.memory.reconsider()
        }
        try await state.set(new, of: name)
    }

    /// All models of the folder.
    func list(_ origin: RequestOrigin) async throws -> [EbbModel] {
        let entries = try await texts.run(.files, origin, cost: 1) { [catalog] job in
            try catalog.scan { try job.demandWanted() }
        }
        return entries.map { entry in
            var model = EbbModel(entry, isLoaded: models[entry.name] != nil, choice: state.choice(entry.name))
            if let identity = entry.identity,
                let costs = state.costs(
                    loader.costsKey(entry.name, byteCount: identity.byteCount, modified: identity.modified))
            {
                model.costs = EbbModeCosts(costs)
            }
            return model
        }
    }
}
