import CEbbSystem
import Dispatch
import Engine
import Glibc
import Governor
import Synchronization

/// The one thread that drives steps. Others hand it work, which it does between two steps; it never waits for them.
final class EngineThread: Sendable {
    private struct Mailbox {
        var commands: [@Sendable (EngineCore) -> Void] = []
        var stopped = false
    }

    private let mailbox = Mutex(Mailbox())
    private let bell = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)
    private let news = PressureInbox()
    private let attention: Attention
    /// When the models' files were last looked at; and how many models were lost by then.
    let filesSeen = Moment()
    let losses = Atomic<Int>(0)
    /// Counts turns and layers: a thread that counts is alive.
    let heartbeat = Atomic<Int>(0)

    /// Starts the thread.
    /// - Parameters:
    ///   - ledger: what accepted work may take; the thread sets its room.
    ///   - attention: told what to look for while no request runs.
    ///   - parkingFolder: where conversations of parked models go; nil to drop them.
    ///   - availableBytes: what the system, and the own control group, could give now.
    ///   - onLost: told of a model that is gone because its file is.
    /// - Throws: ``EngineError`` where the system has no thread to give.
    init(
        policy: Policy, events: EventHub, ledger: Ledger, attention: Attention, limits: ServiceLimits,
        parkingFolder: String?,
        availableBytes: @escaping @Sendable () -> Int, onLost: @escaping @Sendable (String) -> Void
    ) throws {
        self.attention = attention
        let start = Unmanaged.passRetained(
            Start(self) { news in
                EngineCore(
                    heartbeat: { [unowned self] in _ = self.heartbeat.add(1, ordering: .relaxed) },
                    filesSeen: self.filesSeen,
                    memory: MemoryManager(
                        policy: policy, events: events, news: news, ledger: ledger, parkingFolder: parkingFolder,
                        availableBytes: availableBytes),
                    limits: limits,
                    onLost: { [unowned self] name in
                        self.losses.add(1, ordering: .sequentiallyConsistent)
                        onLost(name)
                    })
            })
        var handle = pthread_t()
        let code = pthread_create(
            &handle, nil,
            { raw in
                guard let raw else { return nil }
                ebb_name_thread("ebb.engine")
                let start = Unmanaged<Start>.fromOpaque(raw).takeRetainedValue()
                start.thread.run(start.core(start.thread.news))
                return nil
            }, start.toOpaque())
        guard code == 0 else {
            start.release()
            throw EngineError(.resources, "cannot start the engine thread (error \(code))")
        }
        pthread_detach(handle)
    }

    private final class Start {
        let thread: EngineThread
        /// Makes what the thread owns, on the thread.
        let core: (PressureInbox) -> EngineCore
        init(_ thread: EngineThread, core: @escaping (PressureInbox) -> EngineCore) {
            (self.thread, self.core) = (thread, core)
        }
    }

    private func run(_ core: EngineCore) {
        while true {
            heartbeat.add(1, ordering: .relaxed)
            let (commands, stopped) = mailbox.withLock { box in
                defer { box.commands = [] }
                return (box.commands, box.stopped)
            }
            // What was told before a command was given is known to it.
            if let news = news.take() { core.govern(news) }
            for command in commands { command(core) }
            if stopped { break }
            let hasWorked = core.turn()
            let isActive = core.activeRequests > 0
            if !isActive { attention.expect(core.outlook) }
            if !hasWorked {
                // Stalled requests need a look now and then; everything else rings the bell.
                _ = bell.wait(timeout: isActive ? .now() + .milliseconds(5) : .distantFuture)
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

    /// Tells the engine how scarce memory is. Only the last word counts.
    func govern(_ latest: GovernorNews) {
        news.put(latest)
        bell.signal()
    }

    /// Ends all requests and the thread.
    func stop() {
        let first = mailbox.withLock { box in
            defer { box.stopped = true }
            return !box.stopped
        }
        guard first else { return }
        bell.signal()
        ended.wait()
    }
}
