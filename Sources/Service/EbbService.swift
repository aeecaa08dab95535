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
    private let registry: ModelRegistry
    private let governor: GovernorLoop
    private let access: AccessControl
    private let state = Mutex(State())
    private let started = ContinuousClock.now

    private struct State {
        var draining = false
        var connections = 0
        var listener: (any Channel)?
    }

    /// - Throws: ``ServiceError``, or ``EngineError`` where threads cannot be started.
    public init(_ configuration: ServiceConfiguration, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        let store = ModelStore(folder: configuration.models)
        let pool = try WorkerPool(threads: configuration.threads)
        access = try AccessControl(adminGroup: configuration.adminGroup)
        thread = try EngineThread(kernels: configuration.kernels, policy: configuration.policy)
        registry = ModelRegistry(
            store: store, thread: thread, pool: pool, kernels: configuration.kernels, options: configuration.model,
            defaultWish: configuration.defaultWish)
        governor = GovernorLoop(
            sources: configuration.sources, thread: thread, interval: configuration.governorInterval,
            dwell: configuration.levelDwell)
    }

    deinit { thread.stop() }

    /// Serves. `ready` is called once clients can connect.
    public func run() async throws { try await run(ready: {}) }

    public func run(ready: @escaping @Sendable () -> Void) async throws {
        let file = try configuration.inheritedSocket == nil ? SocketFile(claiming: configuration.socket) : nil
        defer { withExtendedLifetime(file) {} }
        let listener = try await listen()
        state.withLock { $0.listener = listener.channel }
        let governing = Task { await governor.run() }
        defer { governing.cancel() }
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
            registry: registry, thread: thread, access: access, statusReport: { try await self.status() },
            isDraining: { self.state.withLock { $0.draining } })
        try await withThrowingDiscardingTaskGroup { group in
            try await listener.executeThenClose { clients in
                for try await client in clients {
                    group.addTask {
                        self.state.withLock { $0.connections += 1 }
                        await Connection(client, handler: handler, logger: self.logger).run()
                        self.state.withLock { $0.connections -= 1 }
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
        thread.post { $0.failAll(.shuttingDown) }
        // A moment for the last frames to leave.
        try? await clock.sleep(for: .milliseconds(50))
        listener.close(promise: nil)
    }

    private func activeRequests() async -> Int { (try? await thread.perform { $0.activeRequests }) ?? 0 }

    /// Stops as a signal would: no new work, a grace for what runs. Returns when the listener is closed.
    public func stop() async { await drain() }

    /// Whether the engine thread still takes work: what the watchdog is told. Waits for the step that runs now.
    public func isAlive() async -> Bool { (try? await thread.perform { _ in true }) ?? false }

    /// Replaces the policy's limits while running.
    public func setPolicy(_ policy: Policy) { thread.post { $0.setPolicy(policy) } }

    /// Loads a model before anyone asks.
    public func load(_ name: String) async throws { _ = try await registry.require(name) }

    /// What `ebbctl status` shows.
    public func status() async throws -> EbbStatus {
        let view = governor.view
        var (status, active) = try await thread.perform { core in
            var status = EbbStatus()
            status.models = core.models.map(\.status)
            return (status, core.activeRequests)
        }
        status.activeRequests = UInt32(active)
        status.server = "ebbd/\(EbbProtocol.release)"
        status.pid = UInt32(getpid())
        status.uptimeMs = UInt64((ContinuousClock.now - started).seconds * 1000)
        status.level = EbbLevel(rawValue: view.level.rawValue) ?? .nominal
        status.sources = view.readings.map { reading in
            var source = EbbSource()
            (source.name, source.reading) = (reading.name, reading.text)
            return source
        }
        if let memory = ProcessMemory.now() {
            status.anonymousBytes = UInt64(memory.anonymous)
            status.fileBytes = UInt64(memory.file)
        }
        status.availableBytes = UInt64(SystemMemory.now()?.available ?? 0)
        status.connections = UInt32(state.withLock { $0.connections })
        status.isa = configuration.kernels.name
        status.threads = UInt32(configuration.threads)
        return status
    }
}
