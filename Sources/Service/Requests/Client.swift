import EbbProtocol
import Glibc
import Governor

/// Who asks: the process at the other end, and its connection's number; and when this request came.
struct Client: Sendable {
    let peer: Peer
    let connection: UInt64
    /// Monotonic seconds: deadlines count from here.
    let arrival = MonotonicClock.now()

    /// Whose a request is that says nothing of its priority.
    var origin: RequestOrigin { RequestOrigin(uid: peer.uid, connection: connection) }

    /// - Parameter deadlineMilliseconds: from the arrival; 0 for any time.
    /// - Throws: ``ServiceError`` for a priority that there is not.
    func origin(_ priority: EbbPriority, deadlineMilliseconds: UInt32) throws -> RequestOrigin {
        guard let priority = RequestPriority(priority) else { throw ServiceError(.badRequest, "an unknown priority") }
        let deadline = deadlineMilliseconds > 0 ? arrival + Double(deadlineMilliseconds) / 1000 : nil
        return RequestOrigin(uid: peer.uid, connection: connection, priority: priority, deadline: deadline)
    }
}

extension RequestOrigin {
    /// What the daemon does of its own accord: preloading, saving.
    static let daemon = RequestOrigin(uid: geteuid(), connection: 0)
}
