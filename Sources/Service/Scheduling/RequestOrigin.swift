/// Whose a request is and how it is to be served: what the scheduler orders by.
package struct RequestOrigin: Sendable, Hashable {
    /// The user at the other end of the connection, from the kernel.
    package var uid: UInt32
    /// The connection's number, unique in this process.
    package var connection: UInt64
    package var priority = RequestPriority.normal
    /// Monotonic seconds by which it must be answered; nil for any time.
    package var deadline: Double?

    package init(uid: UInt32, connection: UInt64, priority: RequestPriority = .normal, deadline: Double? = nil) {
        (self.uid, self.connection, self.priority, self.deadline) = (uid, connection, priority, deadline)
    }
}

/// Within one, users take turns, then their connections, then their requests.
package enum RequestPriority: Int, Sendable, CaseIterable {
    /// Gets four times what normal requests get: these are never starved.
    case interactive
    case normal
    /// Runs only where no other request is ready.
    case background
}
