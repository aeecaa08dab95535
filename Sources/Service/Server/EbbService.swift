import CEbbSystem
import EbbProtocol
import Engine
import Glibc
import Governor
import Logging
import ModelFormat
import NIOCore
import NIOPosix
import ServiceLifecycle
import Synchronization

/// The daemon without its process: socket, connections, models, governor. Runs until it is told to stop gracefully, or
/// its task is cancelled.
public final class EbbService: Service {
    private let configuration: ServiceConfiguration
    private let logger: Logger
    private let thread: EngineThread
    private let ledger: Ledger
    private let texts: TextPool
    private let registry: ModelRegistry
    private let monitor: PressureMonitor
    private let operatorSource: OperatorSource
    private let events: EventHub
    private let access: AccessControl
    private let state = Mutex(State())
    private let started = ContinuousClock.now
    private let lastBeats = Atomic<Int>(-1)

    private struct State {
        var draining = false
        var connections: [ObjectIdentifier: Connection] = [:]
        var listener: (any Channel)?
    }

    /// - Throws: ``ServiceError``, or ``EngineError`` where threads cannot be started.
    public init(_ configuration: ServiceConfiguration, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        access = try AccessControl(adminGroup: configuration.adminGroup)
        let events = EventHub(logger: logger)
        let ledger = Ledger(room: configuration.policy.budget)
        let texts = TextPool(limits: configuration.limits, ledger: ledger)
        let folder = StateFolder(path: configuration.state, texts: texts, logger: logger)
        let lost = LostModels()
        let thread = try EngineThread(
            policy: configuration.policy, events: events, ledger: Ledger(room: configuration.policy.budget),
            limits: configuration.limits, parkingFolder: folder.parkingFolder,
            availableBytes: configuration.availableBytes, onLost: { lost.report($0) })
        let registry = ModelRegistry(
            store: ModelStore(folder: configuration.models), thread: thread, texts: texts,
            workers: try WorkerPool(threads: configuration.threads), access: access, configuration: configuration,
            state: folder)
        lost.listen { name in Task { await registry.forget(name) } }
        operatorSource = OperatorSource()
        monitor = PressureMonitor(
            sources: configuration.sources + [operatorSource], interval: configuration.governorInterval.seconds,
            dwell: configuration.levelDwell
        ) { view in
            thread.govern(
                GovernorNews(
                    view: view, available: configuration.availableBytes(), now: MonotonicClock.now()))
        }
        (self.ledger, self.texts) = (ledger, texts)
        (self.thread, self.registry, self.events) = (thread, registry, events)
    }

    deinit {
        monitor.stop()
        texts.stop()
        thread.stop()
    }

    /// Serves. `ready` is called once clients can connect.
    public func run() async throws { try await run(ready: {}) }

    public func run(ready: @escaping @Sendable () -> Void) async throws {
        let file = try configuration.inheritedSocket == nil ? SocketFile(claiming: configuration.socket) : nil
        defer { withExtendedLifetime(file) {} }
        let listener = try await listen()
        state.withLock { $0.listener = listener.channel }
        if ebb_guard_install() != 0 { logger.warning("a model file that is cut short will end the daemon") }
        guard monitor.start() else { throw ServiceError(.internal, "cannot start the governor's thread") }
        defer { monitor.stop() }
        for source in monitor.view.sources { logger.info("source \(source.name): \(source.reading.text)") }
        logger.info(
            "serving",
            metadata: [
                "socket": "\(configuration.socket)", "models": "\(configuration.models)",
                "isa": "\(configuration.kernels.name)", "threads": "\(configuration.threads)",
            ])
        ready()
        let group = Task { try await self.accept(listener) }
        await withTaskCancellationOrGracefulShutdownHandler {
            _ = await group.result
        } onCancelOrGracefulShutdown: {
            Task { await self.drain() }
        }
        thread.stop()
    }

    private typealias Client = NIOAsyncChannel<EbbEnvelope, EbbEnvelope>

    private func listen() async throws -> NIOAsyncChannel<Client, Never> {
        let bootstrap = ServerBootstrap(group: NIOSingletons.posixEventLoopGroup)
        let client: @Sendable (any Channel) -> EventLoopFuture<Client> = { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.addEbbFraming()
                return try NIOAsyncChannel(wrappingChannelSynchronously: channel)
            }
        }
        if let inherited = configuration.inheritedSocket {
            return try await bootstrap.bind(inherited, childChannelInitializer: client)
        }
        // The socket is born with mode 0660: a chmod afterwards would leave a moment for others.
        let mask = umask(0o117)
        defer { umask(mask) }
        do {
            return try await bootstrap.bind(unixDomainSocketPath: configuration.socket, childChannelInitializer: client)
        } catch {
            throw ServiceError(.internal, "cannot listen on \(configuration.socket): \(error)")
        }
    }

    private func accept(_ listener: NIOAsyncChannel<Client, Never>) async throws {
        let handler = RequestHandler(
            registry: registry, thread: thread, texts: texts, ledger: ledger, limits: configuration.limits,
            access: access, operatorSource: operatorSource,
            wakeMonitor: { self.monitor.wake() }, pressure: { self.monitor.view }, events: events,
            statusReport: { try await self.status() },
            isDraining: { self.state.withLock { $0.draining } })
        try await withThrowingDiscardingTaskGroup { group in
            try await listener.executeThenClose { clients in
                for try await client in clients {
                    group.addTask {
                        let connection = Connection(client, handler: handler, logger: self.logger)
                        self.state.withLock { $0.connections[ObjectIdentifier(connection)] = connection }
                        await connection.run()
                        self.state.withLock { _ = $0.connections.removeValue(forKey: ObjectIdentifier(connection)) }
                    }
                }
            }
            // The listener is closed: running requests had their grace in drain().
            group.cancelAll()
        }
    }

    /// Refuses new work, lets running requests end within the grace, then closes.
    private func drain() async {
        let listener = state.withLock { state in
            defer { state.draining = true }
            return state.draining ? nil : state.listener
        }
        guard let listener else { return }
        thread.post { $0.isDraining = true }
        let clock = ContinuousClock()
        let end = clock.now + configuration.grace
        var active = await activeRequests()
        if active > 0 {
            logger.info("draining", metadata: ["requests": "\(active)", "grace": "\(configuration.grace)"])
        }
        while active > 0, clock.now < end {
            try? await clock.sleep(for: .milliseconds(20))
            active = await activeRequests()
        }
        texts.stop()
        thread.post { $0.failAll(.shuttingDown) }
        // A moment for the last frames to leave.
        try? await clock.sleep(for: .milliseconds(50))
        listener.close(promise: nil)
    }

    private func activeRequests() async -> Int {
        texts.count + ((try? await thread.perform { $0.activeRequests }) ?? 0)
    }

    /// Stops as a signal would: no new work, a grace for what runs. Returns when the listener is closed.
    public func stop() async { await drain() }

    /// Whether the engine thread gets on: what the watchdog is told. A step may take long on a slow machine, so what
    /// counts is that something has happened since the last question.
    public func isAlive() -> Bool {
        // Idle, it would sleep: this wakes it for a turn, which the next question finds.
        thread.post { _ in }
        let beats = thread.heartbeat.load(ordering: .relaxed)
        return lastBeats.exchange(beats, ordering: .relaxed) != beats
    }

    /// Replaces the policy's limits while running.
    public func setPolicy(_ policy: Policy) { thread.post { core in core.residency.setPolicy(policy, core.models) } }

    /// Loads a model before anyone asks.
    public func load(_ name: String) async throws { _ = try await registry.require(name, .daemon) }

    /// What `ebbctl status` shows: memory as the kernel counts it now.
    public func status() async throws -> EbbStatus {
        var (status, regions) = try await thread.perform { core in
            var status = EbbStatus()
            status.models = core.models.map(\.status)
            status.activeRequests = UInt32(core.activeRequests)
            status.queuedRequests = UInt32(core.queuedRequests)
            status.budgetBytes = UInt64(core.residency.policy.budget)
            status.reserveBytes = UInt64(core.residency.policy.reserve)
            return (status, core.models.map(\.regions))
        }
        for index in status.models.indices { regions[index].measure(into: &status.models[index]) }
        describeProcess(&status)
        let view = monitor.view
        status.level = EbbLevel(rawValue: view.level.rawValue) ?? .nominal
        status.sources = view.sources.map { seen in
            var source = EbbSource()
            (source.name, source.reading) = (seen.name, seen.reading.text)
            source.level = EbbLevel(rawValue: seen.reading.level.rawValue) ?? .nominal
            return source
        }
        let connections = state.withLock { Array($0.connections.values) }
        status.connections = UInt32(connections.count)
        status.clients = connections.compactMap(\.status).sorted { ($0.pid, $0.name) < ($1.pid, $1.name) }
        return status
    }

    private func describeProcess(_ status: inout EbbStatus) {
        status.server = "ebbd/\(EbbProtocol.release)"
        status.pid = UInt32(getpid())
        status.uptimeMs = UInt64((ContinuousClock.now - started).seconds * 1000)
        status.availableBytes = UInt64(configuration.availableBytes())
        status.isa = configuration.kernels.name
        status.threads = UInt32(configuration.threads)
        guard let memory = ProcessMemory.now() else { return }
        status.anonymousBytes = UInt64(memory.anonymous)
        status.fileBytes = UInt64(memory.file)
        let models = status.models.reduce(0) {
            $0 + $1.residentBytes + $1.expandedBytes + $1.kvBytes + $1.scratchBytes
        }
        let all = status.anonymousBytes + status.fileBytes
        status.ownBytes = all > models ? all - models : 0
    }
}

/// Carries the names of lost models from the engine thread to the registry, which is made after it.
private final class LostModels: Sendable {
    private let listener = Mutex<(@Sendable (String) -> Void)?>(nil)

    func listen(_ new: @escaping @Sendable (String) -> Void) { listener.withLock { $0 = new } }
    func report(_ name: String) { listener.withLock { $0 }?(name) }
}
