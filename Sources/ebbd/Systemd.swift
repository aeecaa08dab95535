import CEbbSystem
import Glibc
import Service

/// The service manager's side of the daemon, by libsystemd. Without a service manager all of it does nothing.
enum Systemd {
    /// A state change, as sd_notify(3) takes it.
    static func notify(_ state: String) { _ = ebb_notify(state) }

    /// Whether a service manager wants to be told.
    static var isListening: Bool { getenv("NOTIFY_SOCKET") != nil }

    /// The listening socket that systemd hands over; nil where the daemon makes its own.
    static func inheritedSocket() throws -> Int32? {
        let count = ebb_listen_fds()
        guard count > 0 else { return nil }
        guard count == 1, ebb_is_listening_unix(3) == 1 else {
            throw ServiceError(
                .internal, "systemd handed over \(count) sockets; one listening Unix stream socket was expected")
        }
        return 3
    }

    static var monotonicMicroseconds: Int {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return now.tv_sec * 1_000_000 + now.tv_nsec / 1000
    }
}
