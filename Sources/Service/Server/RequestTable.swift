import EbbProtocol
import Synchronization

/// The requests of one connection that are under way.
final class RequestTable: Sendable {
    private struct Request {
        let bytes: Int
        /// The promise of the memory of what it says.
        let memory: Ledger.Reservation?
        var work: Task<Void, Never>?
        /// Why it is to end.
        var ending: ServiceError?
    }

    private struct State {
        var requests: [UInt64: Request] = [:]
        /// Bytes of their frames.
        var bytes = 0
        /// Requests whose last answer is not queued yet: an id is free a moment earlier.
        var unanswered = 0
        /// Why no more is begun.
        var closed: ServiceError?
    }

    private let limit: Int
    private let state = Mutex(State())

    /// Bytes that the requests under way of a connection may have: one that waits for its turn keeps its text.
    private static let mostBytes = 4 * EbbProtocol.maxFrameBytes

    /// - Parameter limit: requests at once.
    init(limit: Int) { self.limit = limit }

    var count: Int { state.withLock { $0.requests.count } }
    var unanswered: Int { state.withLock { $0.unanswered } }

    /// - Throws: ``ServiceError`` where it cannot be taken on.
    func begin(_ id: UInt64, bytes: Int, memory: Ledger.Reservation?) throws {
        let limit = limit
        try state.withLock { state in
            if let closed = state.closed { throw closed }
            guard state.requests[id] == nil else {
                throw ServiceError(.badRequest, "a request with id \(id) is under way")
            }
            guard state.requests.count < limit else {
                throw ServiceError(.overloaded, "\(limit) requests are under way", retryAfter: 100)
            }
            guard state.bytes == 0 || state.bytes + bytes <= Self.mostBytes else {
                throw ServiceError(
                    .overloaded, "the requests under way have \(state.bytes) bytes, \(Self.mostBytes) are the most",
                    retryAfter: 100)
            }
            state.requests[id] = Request(bytes: bytes, memory: memory)
            state.bytes += bytes
            state.unanswered += 1
        }
    }

    /// The task that serves it: cancelled with it.
    func attach(_ work: Task<Void, Never>, to id: UInt64) {
        let isOver = state.withLock { state in
            state.requests[id]?.work = work
            return state.requests[id].map { $0.ending != nil } ?? true
        }
        if isOver { work.cancel() }
    }

    /// Frees the id: its last answer follows, or has failed. Why it was to end, if it was.
    @discardableResult
    func free(_ id: UInt64) -> ServiceError? {
        state.withLock { state in
            guard let request = state.requests.removeValue(forKey: id) else { return nil }
            state.bytes -= request.bytes
            return request.ending
        }
    }

    /// Its last answer is queued, or will never be.
    func answered() { state.withLock { $0.unanswered -= 1 } }

    func cancel(_ id: UInt64) {
        let request = state.withLock { state in
            if state.requests[id]?.ending == nil { state.requests[id]?.ending = .cancelled }
            return state.requests[id]
        }
        request?.work?.cancel()
    }

    /// Ends all, and lets none begin.
    func close(_ error: ServiceError) {
        let requests = state.withLock { state in
            state.closed = error
            for id in state.requests.keys where state.requests[id]?.ending == nil { state.requests[id]?.ending = error }
            return Array(state.requests.values)
        }
        for request in requests { request.work?.cancel() }
    }
}
