import EbbClient
import Engine
import Governor
import Logging
import Service
import Synchronization
import TestKit

/// A pressure source that says what a test tells it.
final class ScriptedSource: PressureSource {
    let name = "script"
    /// As on a system whose kernel tells of pressure: the monitor sleeps long where nobody asks for anything.
    let coversSystem = true
    private let level = Mutex(PressureLevel.nominal)

    func say(_ new: PressureLevel) { level.withLock { $0 = new } }
    func read() -> PressureReading { PressureReading(level: level.withLock { $0 }, text: "as the test says") }
}

/// A service on a socket of its own, as long as `body` runs.
struct RunningService {
    let socket: String
    let service: EbbService
    let source: ScriptedSource

    static func with(
        models: String? = nil, socket: String? = nil,
        configure: (inout ServiceConfiguration) -> Void = { $0.grace = .seconds(5) },
        _ body: @escaping @Sendable (RunningService) async throws -> Void
    ) async throws {
        let folder = try TemporaryFolder()
        let path = socket ?? folder.file("ebb.sock")
        let source = ScriptedSource()
        var configuration = ServiceConfiguration(
            models: try models ?? realModels(), socket: path, threads: 2, kernels: try Kernels.fromEnvironment())
        configuration.sources = [source]
        configuration.governorInterval = .milliseconds(5)
        configuration.levelDwell = 0.05
        configuration.policy = Policy(budget: 1 << 40, reserve: 0, calmBeforeGrowth: 0.05, dwell: 0.05)
        configuration.probesModes = false
        configuration.defaultWish = .memoryLow
        configuration.grace = .seconds(5)
        configure(&configuration)
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let service = try EbbService(configuration, logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            let (ready, signal) = AsyncStream.makeStream(of: Void.self)
            group.addTask {
                defer { signal.finish() }
                try await service.run { signal.yield(()) }
            }
            var waiting = ready.makeAsyncIterator()
            guard await waiting.next() != nil else {
                try await group.next()
                throw ServiceError(.internal, "the service ended at once")
            }
            defer { group.cancelAll() }
            try await body(RunningService(socket: path, service: service, source: source))
        }
    }

    /// The folder with SmolLM2 in it.
    private static func realModels() throws -> String {
        _ = try RealModel.smollm2.open()
        return try RealModel.store().folder
    }

    /// Why a service cannot be started on a socket; nil if it can (then it is stopped again).
    static func startError(socket: String) async -> ServiceError? {
        do {
            let configuration = ServiceConfiguration(
                models: "/nonexistent", socket: socket, threads: 1, kernels: try Kernels.fromEnvironment())
            let service = try EbbService(configuration, logger: Logger(label: "test"))
            try await service.run { Task { await service.stop() } }
            return nil
        } catch {
            return error as? ServiceError
        }
    }

    /// A connection that can misbehave.
    func raw() async throws -> RawSocket { try RawSocket(socket) }

    /// The same, after the handshake.
    func greeted() async throws -> RawSocket {
        let raw = try await raw()
        try raw.greet()
        return raw
    }

    func client() async throws -> EbbClient { try await EbbClient.connect(to: socket, as: "test") }

    /// Waits, without a fixed sleep, until something holds. It gives up after minutes: no speed of the machine decides.
    func until(_ what: String, for seconds: Int = 300, _ condition: (EbbStatusView) -> Bool) async throws {
        for _ in 0..<seconds * 200 {
            if condition(EbbStatusView(try await service.status())) { return }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw ServiceError(.internal, "never came: \(what)")
    }
}
