import Synchronization

/// The connections that are open.
final class Connections: Sendable {
    private enum Phase {
        case serving
        /// No new requests; those under way go on.
        case draining
        case closing
    }

    private struct State {
        var open: [ObjectIdentifier: Connection] = [:]
        var phase = Phase.serving
    }

    private let state = Mutex(State())

    /// Seconds that last frames get to leave when the service stops.
    static let lastFrameSeconds = 2.0

    func add(_ connection: Connection) {
        let closing = state.withLock { state in
            state.open[ObjectIdentifier(connection)] = connection
            return state.phase == .closing
        }
        if closing { connection.finish(.shuttingDown, within: Self.lastFrameSeconds) }
    }

    func remove(_ connection: Connection) {
        state.withLock { _ = $0.open.removeValue(forKey: ObjectIdentifier(connection)) }
    }

    var all: [Connection] { state.withLock { Array($0.open.values) } }
    /// Requests of all that wait for their last answer.
    var unanswered: Int { all.reduce(0) { $0 + $1.unanswered } }
    var isDraining: Bool { state.withLock { $0.phase != .serving } }

    /// False where that has begun already.
    func beginDraining() -> Bool {
        state.withLock { state in
            guard state.phase == .serving else { return false }
            state.phase = .draining
            return true
        }
    }

    /// Ends what is under way.
    func fail(_ error: ServiceError) {
        for connection in all { connection.fail(error) }
    }

    /// Lets what is queued leave, then closes all.
    func close() {
        let open = state.withLock { state in
            state.phase = .closing
            return Array(state.open.values)
        }
        for connection in open { connection.finish(within: Self.lastFrameSeconds) }
    }
}
