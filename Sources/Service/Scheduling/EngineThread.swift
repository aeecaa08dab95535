import Dispatch
import Engine
import Glibc
import Governor
import Synchronization

/// The one thread that drives steps. Others hand it work, which it does between two steps; it never waits for them.
public final class EngineThread: Sendable {
    private struct Mailbox {
        var commands: [@Sendable (EngineCore) -> Void] = []
        var stopped = false
    }

    private let mailbox = Mutex(Mailbox())
    private let bell = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)
    /// Set while the level forbids growth, so that an expansion in the background gives up between two pieces.
    private let growthForbidden = Atomic<Bool>(false)

    /// Starts the thread.
    /// - Throws: ``EngineError`` where the system has no thread to give.
    public init(kernels: Kernels, policy: Policy) throws {
        let start = Unmanaged.passRetained(Start(self, kernels, policy))
        var handle = pthread_t()
        let code = pthread_create(
            &handle, nil,
            { raw in
                guard let raw else { return nil }
                let start = Unmanaged<Start>.fromOpaque(raw).takeRetainedValue()
                start.thread.run(EngineCore(kernels: start.kernels, thread: start.thread, policy: start.policy))
                return nil
            }, start.toOpaque())
        guard code == 0 else {
            start.release()
            throw EngineError("cannot start the engine thread (error \(code))")
        }
        pthread_detach(handle)
    }

    private final class Start {
        let thread: EngineThread
        let kernels: Kernels
        let policy: Policy
        init(_ thread: EngineThread, _ kernels: Kernels, _ policy: Policy) {
            (self.thread, self.kernels, self.policy) = (thread, kernels, policy)
        }
    }

    private func run(_ core: EngineCore) {
        while true {
            let (commands, stopped) = mailbox.withLock { box in
                defer { box.commands = [] }
                return (box.commands, box.stopped)
            }
            for command in commands { command(core) }
            if stopped { break }
            if !core.turn() {
                // Stalled requests need a look now and then; everything else rings the bell.
                _ = bell.wait(timeout: core.activeRequests > 0 ? .now() + .milliseconds(5) : .distantFuture)
            }
        }
        core.failAll(.shuttingDown)
        ended.signal()
    }

    /// Has the thread do something between two steps. False, and nothing happens, once it has been stopped.
    @discardableResult
    func post(_ command: @escaping @Sendable (EngineCore) -> Void) -> Bool {
        let accepted = mailbox.withLock { box in
            if !box.stopped { box.commands.append(command) }
            return !box.stopped
        }
        if accepted { bell.signal() }
        return accepted
    }

    /// Has the thread do something between two steps, and waits for the result.
    func perform<T: Sendable>(_ body: @escaping @Sendable (EngineCore) throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            let accepted = mailbox.withLock { box in
                guard !box.stopped else { return false }
                box.commands.append { core in continuation.resume(with: Result { try body(core) }) }
                return true
            }
            if accepted { bell.signal() } else { continuation.resume(throwing: ServiceError.shuttingDown) }
        }
    }

    /// Tells the engine how scarce memory is.
    func govern(level: PressureLevel, calm: Double, available: Int) {
        growthForbidden.store(level > .nominal, ordering: .relaxed)
        post { $0.govern(level: level, calm: calm, available: available) }
    }

    /// Asked by an expansion between two pieces.
    var expansionIsUnwanted: Bool { growthForbidden.load(ordering: .relaxed) }

    /// Ends all requests and the thread.
    public func stop() {
        let first = mailbox.withLock { box in
            defer { box.stopped = true }
            return !box.stopped
        }
        guard first else { return }
        bell.signal()
        ended.wait()
    }
}
