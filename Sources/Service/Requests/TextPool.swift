import Dispatch
import Engine
import Glibc
import Governor
import Synchronization

/// A few threads for what computes or waits outside of the engine: tokenizing, template rendering, files. Neither an
/// actor nor the threads that serve connections ever do such work. Each lane has threads and a fair queue of its own, so
/// that a short text does not wait behind a long one, nor either of them behind a disk.
package final class TextPool: Sendable {
    package enum Lane: Int, CaseIterable, Sendable {
        /// Texts that take some milliseconds.
        case short
        /// Longer texts. Their threads give way to the engine's and the connections'.
        case long
        /// Directories, files, models that are loaded.
        case files

        /// The lane for a text of so many bytes.
        package static func text(bytes: Int) -> Lane { bytes <= 32 << 10 ? .short : .long }
    }

    private let lanes: [WorkLane]
    private let ledger: Ledger
    private let limits: ServiceLimits
    private let load = Mutex(Load())

    /// What waits in all lanes.
    private struct Load {
        var total = 0
        var users: [UInt32: Int] = [:]
        var connections: [UInt64: Int] = [:]
    }

    /// Threads that may wait for disks at once.
    private static let fileThreads = 4

    /// Starts no thread yet: the first job of a lane does.
    package init(limits: ServiceLimits, ledger: Ledger) {
        self.limits = limits
        self.ledger = ledger
        lanes = Lane.allCases.map { lane in
            switch lane {
            case .short: WorkLane("ebb.text.short", threads: 1, nice: 0)
            case .long: WorkLane("ebb.text.long", threads: max(1, limits.textThreads), nice: 5)
            case .files: WorkLane("ebb.files", threads: Self.fileThreads, nice: 0)
            }
        }
    }

    deinit { stop() }

    /// Jobs that wait or run.
    package var count: Int { lanes.reduce(0) { $0 + $1.count } }

    /// Has a thread do something, and waits for it: no longer than until the task is cancelled, the origin's deadline, or
    /// ``stop()``. Work that has begun is told so by its job, and nobody waits for its end.
    /// - Parameter cost: bytes of text, which are promised meanwhile; of files another measure of a turn's length.
    /// - Throws: what the work throws; ``ServiceError``: OVERLOADED where too much waits, OUT_OF_MEMORY, CANCELLED,
    ///   DEADLINE_EXCEEDED, SHUTTING_DOWN.
    package func run<Value: Sendable>(
        _ lane: Lane, _ origin: RequestOrigin, cost: Int,
        _ work: @escaping @Sendable (TextJob) throws -> Value
    ) async throws -> Value {
        if let deadline = origin.deadline, deadline <= MonotonicClock.now() { throw ServiceError.deadlineExceeded }
        try Task.checkCancellation()
        // A text that waits takes memory too; what its work takes besides, the job promises when it begins.
        let held = lane == .files ? nil : try ledger.promise(.texts, cost, for: "a text of \(cost) bytes")
        defer { withExtendedLifetime(held) {} }
        try enter(origin)
        defer { leave(origin) }
        let promise = Promise<Value>()
        let job = TextJob(ledger)
        let ticket = try lanes[lane.rawValue].add(
            WorkLane.Work {
                let answer = Result {
                    try job.demandWanted()
                    return try work(job)
                }
                job.release()
                promise.keep(answer)
            } fail: {
                promise.keep(.failure($0))
            }, origin, cost: cost)
        defer {
            job.cancel()
            lanes[lane.rawValue].withdraw(ticket)
        }
        return try await promise.value(by: origin.deadline)
    }

    private func enter(_ origin: RequestOrigin) throws {
        let limits = limits
        let full = load.withLock { load -> String? in
            if load.total >= limits.maxQueued { return "\(load.total) texts and files" }
            let (user, connection) = (load.users[origin.uid] ?? 0, load.connections[origin.connection] ?? 0)
            if user >= limits.maxQueuedPerUser { return "\(user) texts and files of uid \(origin.uid)" }
            if connection >= limits.maxQueuedPerConnection { return "\(connection) texts and files of this connection" }
            load.total += 1
            load.users[origin.uid] = user + 1
            load.connections[origin.connection] = connection + 1
            return nil
        }
        if let full { throw ServiceError(.overloaded, "\(full) are waiting to be worked on", retryAfter: 500) }
    }

    private func leave(_ origin: RequestOrigin) {
        load.withLock { load in
            load.total -= 1
            load.users.subtractOne(origin.uid)
            load.connections.subtractOne(origin.connection)
        }
    }

    /// Fails all that waits or runs with SHUTTING_DOWN, at once: nobody waits for a thread that is in the middle of
    /// something. New jobs are refused.
    package func stop() { for lane in lanes { lane.stop() } }
}

extension Dictionary where Value == Int {
    /// Counts down; what nobody has is not kept.
    fileprivate mutating func subtractOne(_ key: Key) {
        guard let count = self[key] else { return }
        self[key] = count > 1 ? count - 1 : nil
    }
}
