import CEbbSystem
import Dispatch
import Engine
import Glibc
import Governor
import Synchronization

/// Threads that take work from one fair queue. They start when there is work for them, and end with ``stop()``.
final class WorkLane: Sendable {
    struct Work: Sendable {
        let run: @Sendable () -> Void
        /// Answers in its place; an answer after the first is nothing.
        let fail: @Sendable (ServiceError) -> Void

        init(_ run: @escaping @Sendable () -> Void, fail: @escaping @Sendable (ServiceError) -> Void) {
            (self.run, self.fail) = (run, fail)
        }
    }

    private struct State {
        var queue = JobQueue<Work>()
        /// What the threads are doing, by the threads' numbers, and since when.
        var running: [Int: (work: Work, since: Double)] = [:]
        var threads = 0
        var idle = 0
        var isStopped = false

        /// Threads that do not come back from their work.
        func stuck(_ now: Double) -> Int { running.values.count { now - $0.since > WorkLane.patience } }
    }

    private let state = Mutex(State())
    private let bell = DispatchSemaphore(value: 0)
    private let name: String
    private let width: Int
    private let nice: Int32

    /// Seconds after which a thread is taken for stuck (a disk that does not answer), and another one may start.
    private static let patience = 30.0
    /// Threads in all, stuck ones included.
    private static let mostThreads = 16

    /// - Parameter name: its threads', 15 bytes at most.
    init(_ name: String, threads: Int, nice: Int32) {
        self.name = name
        width = threads
        self.nice = nice
    }

    var count: Int { state.withLock { $0.queue.count + $0.running.count } }

    /// - Returns: what ``withdraw(_:)`` takes.
    /// - Throws: ``ServiceError`` where it is stopped, or the system has no thread to give.
    func add(_ work: Work, _ origin: RequestOrigin, cost: Int) throws -> JobQueue<Work>.Number {
        let (number, needsThread) = try state.withLock { state in
            guard !state.isStopped else { throw ServiceError.shuttingDown }
            let number = state.queue.add(work, origin, cost: cost)
            let working = state.threads - state.stuck(MonotonicClock.now())
            let isShort = state.idle < state.queue.count && working < width && state.threads < Self.mostThreads
            if isShort { state.threads += 1 }
            return (number, isShort)
        }
        if needsThread, !startThread() {
            let threads = state.withLock { state in
                state.threads -= 1
                return state.threads
            }
            if threads == 0 {
                withdraw(number)
                throw ServiceError(.overloaded, "the system has no thread to give", retryAfter: 1000)
            }
        }
        bell.signal()
        return number
    }

    /// Takes work back that has not begun.
    func withdraw(_ number: JobQueue<Work>.Number) { state.withLock { _ = $0.queue.remove(number) } }

    func stop() {
        let (all, threads) = state.withLock { state in
            state.isStopped = true
            return (state.queue.removeAll() + state.running.values.map(\.work), state.threads)
        }
        for work in all { work.fail(.shuttingDown) }
        for _ in 0..<threads { bell.signal() }
    }

    // MARK: The threads

    private func startThread() -> Bool {
        let lane = Unmanaged.passRetained(self)
        var handle = pthread_t()
        let code = pthread_create(
            &handle, nil,
            { raw in
                guard let raw else { return nil }
                Unmanaged<WorkLane>.fromOpaque(raw).takeRetainedValue().serve()
                return nil
            }, lane.toOpaque())
        guard code == 0 else {
            lane.release()
            return false
        }
        pthread_detach(handle)
        return true
    }

    private static let numbers = Atomic<Int>(0)

    private func serve() {
        let number = Self.numbers.add(1, ordering: .relaxed).newValue
        ebb_name_thread(name)
        // Of this thread alone, on Linux.
        if nice != 0 { _ = setpriority(.init(PRIO_PROCESS.rawValue), 0, nice) }
        while true {
            state.withLock { $0.idle += 1 }
            bell.wait()
            let (work, isStopped) = state.withLock { state in
                state.idle -= 1
                let work = state.isStopped ? nil : state.queue.next()
                if let work { state.running[number] = (work, MonotonicClock.now()) }
                if state.isStopped { state.threads -= 1 }
                return (work, state.isStopped)
            }
            if isStopped { return }
            // What was withdrawn leaves a ring of the bell.
            guard let work else { continue }
            work.run()
            state.withLock { _ = $0.running.removeValue(forKey: number) }
        }
    }
}
