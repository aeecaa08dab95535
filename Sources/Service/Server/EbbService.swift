import Dispatch
import Engine
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
    let configuration: ServiceConfiguration
    let logger: Logger
    let thread: EngineThread
    let registry: ModelRegistry
    let adapters: AdapterCatalog
    let monitor: PressureMonitor
    /// When the monitor looks.
    let attention: Attention
    /// Told when what ``summary()`` says may have changed; only the last counts.
    public let changes: AsyncStream<Void>
    let events: EventHub
    /// What accepted work may take, of all kinds.
    let ledger: Ledger
    let texts: TextPool
    let connections = Connections()
    let started = ContinuousClock.now
    private let operatorSource: OperatorSource
    private let access: AccessControl
    private let trimmer: HeapTrimmer
    private let state: StateFolder
    private let entrance = Mutex<Entrance?>(nil)

    /// Where clients come in.
    private struct Entrance {
        let listener: Listener
        let arrivals: AsyncStream<Accepted>.Continuation
    }

    /// - Throws: ``ServiceError``, or ``EngineError`` where threads cannot be started.
    public init(_ configuration: ServiceConfiguration, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        access = try AccessControl(adminGroup: configuration.adminGroup)
        let ledger = Ledger(room: configuration.policy.budget)
        let texts = TextPool(limits: configuration.limits, ledger: ledger)
        let (changes, changed) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let events = EventHub(logger: logger) { changed.yield() }
        let attention = Attention(interval: configuration.governorInterval.seconds)
        let folder = StateFolder(path: configuration.state, texts: texts, logger: logger)
        let lost = LostModels()
        let thread = try EngineThread(
            policy: configuration.policy, events: events, ledger: ledger, attention: attention,
            limits: configuration.limits, parkingFolder: folder.parkingFolder,
            availableBytes: configuration.availableBytes, onLost: { lost.report($0) })
        operatorSource = OperatorSource()
        let trimmer = HeapTrimmer()
        let monitor = PressureMonitor(
            sources: configuration.sources + [operatorSource], attention: attention, dwell: configuration.levelDwell
        ) { view in
            if view.level != .nominal { trimmer.lookSoon() }
            if !view.isQuiet {
                trimmer.lookLater()
                changed.yield()
            }
            thread.govern(
                GovernorNews(
                    view: view, available: configuration.availableBytes(), now: MonotonicClock.now()))
        }
        let store = ModelStore(folder: configuration.models)
        adapters = AdapterCatalog(store: store.adapters, thread: thread, texts: texts)
        let registry = ModelRegistry(
            store: store, thread: thread, texts: texts,
            workers: try WorkerPool(threads: configuration.threads), access: access, configuration: configuration,
            state: folder, lookAtPressure: { await monitor.look() })
        lost.listen { name in Task { await registry.forget(name) } }
        (self.ledger, self.texts, self.trimmer, state) = (ledger, texts, trimmer, folder)
        (self.thread, self.registry, self.events) = (thread, registry, events)
        (self.monitor, self.attention, self.changes) = (monitor, attention, changes)
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
        if !MappedFile.guardReads() { logger.warning("a model file that is cut short will end the daemon") }
        guard monitor.start() else { throw ServiceError(.internal, "cannot start the governor's thread") }
        defer { monitor.stop() }
        let clients = try openEntrance()
        announce()
        ready()
        let serving = Task { await self.serve(clients) }
        await withTaskCancellationOrGracefulShutdownHandler {
            await serving.value
        } onCancelOrGracefulShutdown: {
            Task { await self.drain() }
        }
        await stopEngine()
        state.letGo()
    }

    private func openEntrance() throws -> AsyncStream<Accepted> {
        let limits = configuration.limits
        // The event loops take descriptors of their own, before what is left for connections is counted.
        _ = NIOSingletons.posixEventLoopGroup.next()
        let seats = Seats(
            total: min(limits.maxConnections, Descriptors.roomForConnections), perUser: limits.maxConnectionsPerUser)
        let (clients, arrivals) = AsyncStream.makeStream(of: Accepted.self)
        let descriptor = try configuration.inheritedSocket ?? Listener.listen(configuration.socket)
        let listener = try Listener(descriptor, seats: seats) { arrivals.yield($0) }
        entrance.withLock { $0 = Entrance(listener: listener, arrivals: arrivals) }
        return clients
    }

    private func announce() {
        for source in monitor.view.sources { logger.info("source \(source.name): \(source.reading.text)") }
        logger.info(
            "serving",
            metadata: [
                "socket": "\(configuration.socket)", "models": "\(configuration.models)",
                "isa": "\(configuration.kernels.name)", "threads": "\(configuration.threads)",
            ])
    }

    /// Serves all that come, until the entrance is closed and they are gone.
    private func serve(_ clients: AsyncStream<Accepted>) async {
        let services = ConnectionServices(
            handler: requestHandler(), limits: configuration.limits, ledger: ledger, attention: attention,
            trimmer: trimmer,
            frames: FrameCoder.Queue(), logger: logger)
        await withDiscardingTaskGroup { group in
            for await client in clients {
                group.addTask { await self.serve(client, services) }
            }
        }
    }

    private func serve(_ client: Accepted, _ services: ConnectionServices) async {
        do {
            let connection = try await Connection.open(client, services)
            connections.add(connection)
            await connection.run()
            connections.remove(connection)
        } catch {
            logger.debug("a client was gone at once", metadata: ["error": "\(error)"])
        }
    }

    private func requestHandler() -> RequestHandler {
        RequestHandler(
            registry: registry, adapters: adapters, thread: thread, texts: texts, ledger: ledger,
            limits: configuration.limits,
            variables: configuration.templateVariables, access: access, operatorSource: operatorSource,
            lookAtPressure: { await self.monitor.look() }, pressure: { self.monitor.view }, events: events,
            statusReport: { try await self.status() }, isDraining: { self.connections.isDraining })
    }

    /// Lets no one in any more.
    func closeEntrance() { entrance.withLock { $0 }?.listener.stop() }

    /// Ends the waiting for clients: ``run(ready:)`` returns once the connections are gone.
    func endArrivals() { entrance.withLock { $0 }?.arrivals.finish() }

    private func stopEngine() async {
        let thread = thread
        await withCheckedContinuation { continuation in
            // It waits for the end of a step: not on a thread that tasks share.
            DispatchQueue(label: "ebb.stop").async {
                thread.stop()
                continuation.resume()
            }
        }
    }

    /// How long requests may go on when it is told to stop.
    public var grace: Duration { configuration.grace }
    /// The path of the socket; nil where it was handed over.
    public var ownSocket: String? { configuration.inheritedSocket == nil ? configuration.socket : nil }

    /// The parts that the watchdog looks at.
    public func liveness() -> Liveness {
        let thread = thread
        let engine = Liveness.Part(
            name: "engine", progress: { thread.heartbeat.load(ordering: .relaxed) }, poke: { thread.post { _ in } })
        return Liveness([engine] + Liveness.common(), now: MonotonicClock.now())
    }

    /// Replaces the policy's limits while running.
    public func setPolicy(_ policy: Policy) { thread.post { core in core.memory.setPolicy(policy) } }

    /// Loads a model before anyone asks.
    public func load(_ name: String) async throws {
        attention.begin()
        defer { attention.end() }
        _ = try await registry.require(name, .daemon)
    }
}

/// Carries the names of lost models from the engine thread to the registry, which is made after it.
private final class LostModels: Sendable {
    private let listener = Mutex<(@Sendable (String) -> Void)?>(nil)

    func listen(_ new: @escaping @Sendable (String) -> Void) { listener.withLock { $0 = new } }
    func report(_ name: String) { listener.withLock { $0 }?(name) }
}
