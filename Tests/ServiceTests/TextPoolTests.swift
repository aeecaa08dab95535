import Dispatch
import EbbProtocol
import Governor
import Service
import Synchronization
import Testing

/// Work that stands still until it is let go, and says when it has begun.
private final class Gate: Sendable {
    private let bell = DispatchSemaphore(value: 0)
    private let begun = Promise<Void>()

    func pass() {
        begun.keep(.success(()))
        bell.wait()
        bell.signal()
    }

    func release() { bell.signal() }
    func hasBegun() async throws { try await begun.value() }
}

@Suite("The threads for texts and files")
struct TextPoolTests {
    private let ledger = Ledger(room: 1 << 20)

    private func pool(_ change: (inout ServiceLimits) -> Void = { _ in }) -> TextPool {
        var limits = ServiceLimits()
        change(&limits)
        return TextPool(limits: limits, ledger: ledger)
    }

    private func origin(_ uid: UInt32 = 1, _ connection: UInt64 = 1, deadline: Double? = nil) -> RequestOrigin {
        RequestOrigin(uid: uid, connection: connection, deadline: deadline)
    }

    /// What a run was refused or ended with.
    private func error(_ body: () async throws -> Void) async -> ServiceError? {
        do { try await body() } catch { return ServiceError.of(error) }
        return nil
    }

    /// Waits until something holds.
    private func until(_ condition: () -> Bool) async throws {
        for _ in 0..<60_000 where !condition() { try await Task.sleep(for: .milliseconds(5)) }
        #expect(condition())
    }

    @Test("A short text does not wait behind a long one, nor either behind a file")
    func lanes() async throws {
        let (pool, gate) = (pool(), Gate())
        let long = Task { try await pool.run(.long, origin(), cost: 1) { _ in gate.pass() } }
        let file = Task { try await pool.run(.files, origin(), cost: 1) { _ in gate.pass() } }
        try await gate.hasBegun()
        #expect(try await pool.run(.text(bytes: 20), origin(), cost: 20) { _ in "done" } == "done")
        gate.release()
        try await long.value
        try await file.value
    }

    @Test("Who is cancelled while it waits is told at once, and its work is never begun")
    func cancelWaiting() async throws {
        let (pool, gate) = (pool(), Gate())
        let ran = Mutex(false)
        let first = Task { try await pool.run(.long, origin(), cost: 1) { _ in gate.pass() } }
        try await gate.hasBegun()
        let second = Task { try await pool.run(.long, origin(), cost: 1) { _ in ran.withLock { $0 = true } } }
        try await until { pool.count == 2 }
        second.cancel()
        #expect(await error { try await second.value }?.code == .cancelled)
        gate.release()
        try await first.value
        try await pool.run(.long, origin(), cost: 1) { _ in }
        #expect(!ran.withLock { $0 })
    }

    @Test("Who is cancelled while it runs is told at once, and the work hears of it")
    func cancelRunning() async throws {
        let (pool, gate, heard) = (pool(), Gate(), Promise<Bool>())
        let running = Task {
            try await pool.run(.long, origin(), cost: 1) { job in
                gate.pass()
                heard.keep(.success(job.isCancelled))
            }
        }
        try await gate.hasBegun()
        running.cancel()
        #expect(await error { try await running.value }?.code == .cancelled)
        gate.release()
        #expect(try await heard.value())
    }

    @Test("A deadline that passes while it waits ends the wait")
    func deadline() async throws {
        let (pool, gate) = (pool(), Gate())
        let first = Task { try await pool.run(.long, origin(), cost: 1) { _ in gate.pass() } }
        try await gate.hasBegun()
        let late = origin(deadline: MonotonicClock.now() + 0.01)
        let refusal = await error { try await pool.run(.long, late, cost: 1) { _ in } }
        #expect(refusal?.code == .deadlineExceeded)
        gate.release()
        try await first.value
    }

    @Test("A deadline that has passed before is not worked on at all")
    func pastDeadline() async {
        let refusal = await error {
            try await pool().run(.short, origin(deadline: MonotonicClock.now() - 1), cost: 1) { (_: TextJob) -> Void in
                Issue.record("it ran")
            }
        }
        #expect(refusal?.code == .deadlineExceeded)
    }

    @Test("What waits is bounded for a connection, a user and in all; others are still served")
    func bounds() async throws {
        let gate = Gate()
        let pool = pool {
            ($0.maxQueuedPerConnection, $0.maxQueuedPerUser, $0.maxQueued) = (2, 3, 4)
        }
        var waiting: [Task<Void, any Error>] = []
        func enqueue(_ uid: UInt32, _ connection: UInt64) async throws {
            // What was served has been answered a moment before it is gone.
            try await until { pool.count == waiting.count }
            waiting.append(Task { try await pool.run(.long, origin(uid, connection), cost: 1) { _ in gate.pass() } })
            try await until { pool.count == waiting.count }
        }
        func refusal(_ uid: UInt32, _ connection: UInt64) async -> ServiceError? {
            await error { try await pool.run(.short, origin(uid, connection), cost: 1) { _ in } }
        }
        try await enqueue(1, 1)
        try await enqueue(1, 1)
        let connection = await refusal(1, 1)
        #expect(connection?.code == .overloaded && connection?.retryAfter != nil)
        #expect(await refusal(1, 2) == nil)
        try await enqueue(1, 2)
        #expect(await refusal(1, 3)?.description.contains("uid 1") == true)
        #expect(await refusal(2, 4) == nil)
        try await enqueue(2, 4)
        #expect(await refusal(3, 5)?.code == .overloaded)
        gate.release()
        for task in waiting { try await task.value }
        #expect(await refusal(1, 1) == nil)
    }

    @Test("A stop fails what waits and what runs at once, and waits for no thread")
    func stop() async throws {
        let (pool, gate) = (pool(), Gate())
        let running = Task { try await pool.run(.long, origin(), cost: 1) { _ in gate.pass() } }
        try await gate.hasBegun()
        let waiting = Task { try await pool.run(.long, origin(), cost: 1) { _ in } }
        try await until { pool.count == 2 }
        pool.stop()
        #expect(await error { try await running.value }?.code == .shuttingDown)
        #expect(await error { try await waiting.value }?.code == .shuttingDown)
        #expect(await error { try await pool.run(.short, origin(), cost: 1) { _ in } }?.code == .shuttingDown)
        gate.release()
    }

    @Test("A job's memory is promised while it runs, and comes back; without room it is refused")
    func memory() async throws {
        let (pool, ledger) = (pool(), ledger)
        let texts: @Sendable () -> Int? = { ledger.entries.first { $0.kind == .texts }?.bytes }
        try await pool.run(.short, origin(), cost: 1) { job in
            try job.reserve(1000, for: "a text")
            #expect(texts() == 1001)
        }
        try await until { texts() == 0 }
        let held = ledger.reserve(.kv, 1 << 19)
        let now = await error { try await pool.run(.short, origin(), cost: 1) { try $0.reserve(1 << 20, for: "a") } }
        #expect(now?.code == .outOfMemory && now?.retryAfter != nil)
        let never = await error { try await pool.run(.short, origin(), cost: 1) { try $0.reserve(2 << 20, for: "a") } }
        #expect(never?.code == .outOfMemory && never?.retryAfter == nil)
        withExtendedLifetime(held) {}
    }

    @Test("Eight jobs that do not end leave the short lane free")
    func manyLong() async throws {
        let (pool, gate) = (pool(), Gate())
        let long = (0..<8).map { _ in Task { try await pool.run(.long, origin(), cost: 1) { _ in gate.pass() } } }
        try await gate.hasBegun()
        for _ in 0..<100 { try await pool.run(.short, origin(2, 2), cost: 1) { _ in } }
        gate.release()
        for task in long { try await task.value }
    }
}

@Suite("An answer that several wait for")
struct PromiseTests {
    @Test("All who wait get the first answer, and those who come later too")
    func answers() async throws {
        let promise = Promise<Int>()
        let waiting = (0..<10).map { _ in Task { try await promise.value() } }
        promise.keep(.success(1))
        promise.keep(.success(2))
        for task in waiting { #expect(try await task.value == 1) }
        #expect(try await promise.value() == 1)
    }

    @Test("One that is cancelled ends its own waiting alone")
    func cancel() async throws {
        let promise = Promise<Int>()
        let (leaving, staying) = (Task { try await promise.value() }, Task { try await promise.value() })
        leaving.cancel()
        let result = await leaving.result
        #expect(throws: ServiceError.self) { try result.get() }
        promise.keep(.success(1))
        #expect(try await staying.value == 1)
    }

    @Test("A deadline ends one's own waiting alone")
    func deadline() async throws {
        let promise = Promise<Int>()
        let staying = Task { try await promise.value() }
        await #expect(throws: ServiceError.self) { try await promise.value(by: MonotonicClock.now() + 0.001) }
        promise.keep(.success(1))
        #expect(try await staying.value == 1)
    }
}
