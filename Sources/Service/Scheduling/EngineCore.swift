import Engine
import Governor

/// What the engine thread owns: the loaded models, and which of their layers are expanded.
final class EngineCore {
    let memory: MemoryManager
    var models: [HostedModel] { memory.models }
    /// Told when a model is no more because its file is.
    private let onLost: @Sendable (String) -> Void

    private let heartbeat: () -> Void
    private let filesSeen: Moment
    private let desk: AdmissionDesk
    private let limits: QueueLimits
    /// Whose step is next: models take turns in microseconds of their steps.
    private var order = DeficitRoundRobin<String>()

    /// Microseconds of a model's turn: a step of few rows takes less, and then another follows.
    private static let quantum = 10_000

    /// Whether the service is about to end: what it has accepted goes on, or still comes here from the text pool; nothing
    /// is expanded any more. New requests are refused where they arrive.
    var isDraining: Bool {
        get { memory.isDraining }
        set { memory.isDraining = newValue }
    }

    /// - Parameter filesSeen: set when the models' files were looked at.
    init(
        heartbeat: @escaping () -> Void, filesSeen: Moment, memory: MemoryManager, limits: ServiceLimits,
        onLost: @escaping @Sendable (String) -> Void
    ) {
        self.heartbeat = heartbeat
        self.filesSeen = filesSeen
        self.memory = memory
        self.onLost = onLost
        self.limits = QueueLimits(limits)
        desk = AdmissionDesk(ledger: memory.ledger)
        desk.promise = memory.promise
        desk.models = { [unowned self] in self.models }
        desk.refusal = { [unowned self] what, bytes in
            let verdict = self.memory.admission().verdict(what, anonymous: bytes)
            guard case .refused(let why, let isLasting) = verdict else { return nil }
            return (why, isLasting)
        }
    }

    func model(_ name: String) -> HostedModel? { models.first { $0.name == name } }

    func add(_ model: HostedModel) {
        (model as? HostedDecoder)?.desk = desk
        model.model.betweenLayers = { [weak self] in self?.governWithinStep() }
        memory.add(model, "a request or the operator asked for it")
    }

    func remove(_ name: String, reason: String = "the operator unloaded it") throws {
        guard let model = model(name) else { throw ServiceError(.unknownModel, "\(name) is not loaded") }
        model.failAll(ServiceError(.modelUnusable, "\(name) was unloaded"))
        memory.remove(model, reason)
    }

    var activeRequests: Int { models.reduce(0) { $0 + $1.activeRequests } }

    /// Requests that wait for memory or for their turn.
    var queuedRequests: Int { models.reduce(0) { $0 + $1.waiting.count } }

    /// A step of the model whose turn it is, and a piece of what the governor wants done. False if nothing was to do.
    func turn() -> Bool {
        let start = MonotonicClock.now()
        for model in models { model.attend(now: start) }
        let worked = step()
        for model in models where model.model.file.isCutShort {
            lose(model, "its file was cut short while it was mapped")
        }
        let busy = memory.work(stepSeconds: worked ? MonotonicClock.now() - start : nil)
        return worked || busy
    }

    private func step() -> Bool {
        let urgencies = models.compactMap { model in model.urgency.map { (model, $0) } }
        let isForeground = urgencies.contains { $0.1 != .background }
        let ready = urgencies.filter { !isForeground || $0.1 != .background }.map(\.0)
        order.keep(Set(models.map(\.name)))
        guard let name = order.next(among: ready.map(\.name), quantum: { _ in Self.quantum }), let model = model(name)
        else { return false }
        let start = MonotonicClock.now()
        let worked = model.step()
        order.charge(name, Int(clamping: Int64((MonotonicClock.now() - start) * 1e6)))
        return worked
    }

    /// Takes a generation on, or refuses it at once.
    /// - Throws: ``ServiceError`` where it cannot be served.
    func submit(_ request: GenerationRequest, to name: String, _ handle: GenerationHandle) throws {
        let hosted: HostedDecoder = try host(name, of: request.origin)
        try hosted.submit(request, handle) { try demandQueue(request.origin) }
    }

    /// Takes texts to embed on; a refusal is their answer.
    func submit(_ request: EmbeddingRequest, to name: String) {
        do {
            let hosted: HostedEncoder = try host(name, of: request.origin)
            try hosted.submit(request) { try demandQueue(request.origin) }
        } catch {
            request.finish(.failure(error))
        }
    }

    /// The model that a request is for, awake.
    private func host<Host: HostedModel>(_ name: String, of origin: RequestOrigin) throws -> Host {
        if let late = ServiceError.late(origin, now: MonotonicClock.now()) { throw late }
        guard let hosted = model(name) as? Host else {
            throw ServiceError(.modelUnusable, "\(name) was unloaded", retryAfter: 100)
        }
        memory.wake(hosted, "a request")
        return hosted
    }

    private func demandQueue(_ origin: RequestOrigin) throws {
        try limits.demandRoom(for: origin, among: models.flatMap(\.waiting))
    }

    func failAll(_ error: ServiceError) {
        for model in models { model.failAll(error) }
    }

    func setWish(_ wish: ModelState.Wish, of name: String) throws {
        guard let model = model(name) else { throw ServiceError(.unknownModel, "\(name) is not loaded") }
        // What the other mode has computed is not what this one is asked for.
        if model.wish != wish { _ = model.dropPrefixes() }
        model.wish = wish
        memory.reconsider()
    }

    // MARK: The governor

    func govern(_ news: GovernorNews) {
        lookAtFiles()
        memory.govern(news)
    }

    /// What the monitor should look for while no request runs.
    var outlook: LookPlan.Outlook {
        var outlook = memory.outlook
        if hasTouchedFile {
            outlook.moment = min(outlook.moment ?? .infinity, filesSeen.at + Self.fileInterval)
        }
        return outlook
    }

    private func governWithinStep() {
        heartbeat()
        memory.governWithinStep()
    }

    /// Seconds between two looks at the models' files.
    static let fileInterval = 1.0
    /// Whether a file's bytes are being compared, since its times have changed.
    private var hasTouchedFile = false

    /// Notices files that were written over or replaced, once a second at most.
    func lookAtFiles() {
        let now = MonotonicClock.now()
        guard now - filesSeen.at >= Self.fileInterval else { return }
        // Not before all that is lost has been told.
        defer { filesSeen.at = now }
        hasTouchedFile = false
        for model in models {
            switch model.model.file.look() {
            case .unchanged: break
            // What it finds shows at the next look.
            case .touched:
                hasTouchedFile = true
                model.model.file.recheck { _ in }
            case .damaged: lose(model, "its file was written over while it was mapped")
            case .replaced where model.activeRequests == 0:
                lose(model, "its file was replaced; the next request loads the new one")
            case .replaced: break
            }
        }
    }

    private func lose(_ model: HostedModel, _ reason: String) {
        model.failAll(.changedFile(model.name))
        try? remove(model.name, reason: reason)
        onLost(model.name)
    }
}
