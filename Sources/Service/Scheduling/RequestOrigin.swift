/// Whose a request is and how it is to be served: what the scheduler orders by.
struct RequestOrigin: Sendable, Hashable {
    /// The user at the other end of the connection, from the kernel.
    var uid: UInt32
    /// The connection's number, unique in this process.
    var connection: UInt64
    var priority = RequestPriority.normal
    /// Monotonic seconds by which it must be answered; nil for any time.
    var deadline: Double?
}

/// Served first to last. Within one, users take turns, then their connections, then their requests.
enum RequestPriority: Int, Sendable, CaseIterable {
    case interactive
    case normal
    /// Runs in what the others leave.
    case background
}
