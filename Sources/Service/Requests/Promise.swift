import Governor
import Synchronization

/// An answer that several may wait for, each for as long as it likes. The first answer counts.
package final class Promise<Value: Sendable>: Sendable {
    private enum Waiter {
        case waiting(CheckedContinuation<Value, any Error>)
        /// It gave up before it had begun to wait.
        case gone(any Error)
    }

    private struct State {
        var answer: Result<Value, any Error>?
        var waiters: [UInt64: Waiter] = [:]
        var next: UInt64 = 0
    }

    private let state = Mutex(State())

    package init() {}

    /// Answers all that wait, and those who come later.
    package func keep(_ answer: Result<Value, any Error>) {
        let waiters = state.withLock { state -> [UInt64: Waiter] in
            guard state.answer == nil else { return [:] }
            state.answer = answer
            defer { state.waiters = [:] }
            return state.waiters
        }
        for case .waiting(let continuation) in waiters.values { continuation.resume(with: answer) }
    }

    /// The answer. Only this one's waiting ends with its task's cancellation, or its deadline.
    /// - Parameter deadline: monotonic seconds.
    /// - Throws: what it was answered with; ``ServiceError/cancelled``, ``ServiceError/deadlineExceeded``.
    package func value(by deadline: Double? = nil) async throws -> Value {
        let number = state.withLock { state in
            state.next += 1
            return state.next
        }
        let alarm = deadline.map { deadline in
            Task {
                try await Task.sleep(for: .seconds(max(0, deadline - MonotonicClock.now())))
                self.giveUp(number, ServiceError.deadlineExceeded)
            }
        }
        defer {
            alarm?.cancel()
            state.withLock { _ = $0.waiters.removeValue(forKey: number) }
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { wait(number, $0) }
        } onCancel: {
            giveUp(number, ServiceError.cancelled)
        }
    }

    private func wait(_ number: UInt64, _ continuation: CheckedContinuation<Value, any Error>) {
        let answer = state.withLock { state -> Result<Value, any Error>? in
            if let answer = state.answer { return answer }
            if case .gone(let error)? = state.waiters[number] { return .failure(error) }
            state.waiters[number] = .waiting(continuation)
            return nil
        }
        if let answer { continuation.resume(with: answer) }
    }

    private func giveUp(_ number: UInt64, _ error: any Error) {
        let waiter = state.withLock { state -> Waiter? in
            guard state.answer == nil else { return nil }
            return state.waiters.updateValue(.gone(error), forKey: number)
        }
        if case .waiting(let continuation)? = waiter { continuation.resume(throwing: error) }
    }
}
