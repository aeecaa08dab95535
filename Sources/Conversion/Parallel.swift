import Dispatch
import Synchronization

/// Runs independent pieces of work on a few threads.
enum Parallel {
    /// Calls `body` for 0..<count on up to `jobs` threads, each taking the next number; the first error ends it.
    static func run(_ count: Int, jobs: Int, _ body: @Sendable (Int) throws -> Void) throws {
        let next = Atomic<Int>(0)
        let failure = Mutex<(any Error)?>(nil)
        DispatchQueue.concurrentPerform(iterations: max(1, min(jobs, count))) { _ in
            while true {
                let index = next.add(1, ordering: .relaxed).oldValue
                guard index < count, failure.withLock({ $0 == nil }) else { return }
                do { try body(index) } catch { failure.withLock { $0 = $0 ?? error } }
            }
        }
        if let error = failure.withLock({ $0 }) { throw error }
    }
}
