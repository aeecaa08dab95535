import CEbbSystem
import EbbProtocol
import Foundation
import Glibc
import Synchronization

/// A client that has been let in.
struct Accepted: Sendable {
    let descriptor: Int32
    let peer: Peer
    let seat: Seats.Seat
}

/// Accepts connections on a thread of its own, and refuses those that are too many with a reason, before they cost more
/// than a descriptor.
///
/// Its own thread, since at the limit of descriptors accept(2) fails while the socket stays readable: it then takes the
/// spare descriptor to refuse one, or sleeps a moment.
final class Listener: Sendable {
    private let descriptor: Int32
    /// Wakes the thread for its end.
    private let bell: Int32
    private let seats: Seats
    private let admit: @Sendable (Accepted) -> Void
    private let stopping = Atomic<Bool>(false)

    /// Connections that the kernel keeps for us.
    private static let backlog: Int32 = 128

    /// Listens on a path.
    /// - Throws: ``ServiceError``.
    static func listen(_ path: String) throws -> Int32 {
        let descriptor = ebb_listen(path, backlog)
        guard descriptor >= 0 else {
            throw ServiceError(.internal, "cannot listen on \(path): \(String(cString: strerror(-descriptor)))")
        }
        return descriptor
    }

    /// Starts the thread.
    /// - Parameters:
    ///   - descriptor: of a listening socket, which is closed when the listener stops.
    ///   - admit: told of each client, on the listener's thread; owns its descriptor from then on.
    /// - Throws: ``ServiceError``.
    init(_ descriptor: Int32, seats: Seats, admit: @escaping @Sendable (Accepted) -> Void) throws {
        bell = ebb_eventfd()
        guard bell >= 0 else { throw ServiceError(.internal, "cannot make an event descriptor") }
        (self.descriptor, self.seats, self.admit) = (descriptor, seats, admit)
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        let thread = Thread { self.run() }
        thread.name = "ebb.listener"
        thread.start()
    }

    /// Lets no one in any more.
    func stop() {
        guard !stopping.exchange(true, ordering: .relaxed) else { return }
        var one: UInt64 = 1
        _ = write(bell, &one, 8)
    }

    private func run() {
        var spare = open("/dev/null", O_RDONLY | O_CLOEXEC)
        while wait() {
            let client = ebb_accept(descriptor)
            if client >= 0 {
                welcome(client)
                continue
            }
            switch -client {
            case EAGAIN, EINTR, ECONNABORTED: break
            case EMFILE where spare >= 0, ENFILE where spare >= 0:
                close(spare)
                let one = ebb_accept(descriptor)
                if one >= 0 { refuse(one, Self.noDescriptors) }
                spare = open("/dev/null", O_RDONLY | O_CLOEXEC)
                usleep(1000)
            default:
                // No descriptor, no memory: it may pass, and asking at once would spin.
                usleep(100_000)
                if spare < 0 { spare = open("/dev/null", O_RDONLY | O_CLOEXEC) }
            }
        }
        for open in [descriptor, bell, spare] where open >= 0 { close(open) }
    }

    /// Until a client waits. False when the listener is to stop.
    private func wait() -> Bool {
        var waiting = [
            pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: bell, events: Int16(POLLIN), revents: 0),
        ]
        _ = poll(&waiting, 2, -1)
        return !stopping.load(ordering: .relaxed)
    }

    private static let noDescriptors = ServiceError(
        .overloaded, "the daemon has no file descriptor left", retryAfter: 1000)

    private func welcome(_ client: Int32) {
        do {
            let peer = try Peer(of: client)
            admit(Accepted(descriptor: client, peer: peer, seat: try seats.take(peer.uid)))
        } catch {
            refuse(client, ServiceError.of(error))
        }
    }

    /// Says why, and closes. The buffer of a new socket has room for a frame of this size.
    private func refuse(_ client: Int32, _ error: ServiceError) {
        if let frame = try? FrameEncoder.frame(EbbEnvelope(id: 0, .failure(error.failure))) {
            frame.withUnsafeReadableBytes { _ = send(client, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        }
        close(client)
    }
}
