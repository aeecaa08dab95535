import Dispatch
import Glibc
import Logging

/// Ends the process at once when it is told to stop a second time, or when stopping takes far longer than the grace: on
/// queues that neither tasks nor event loops use, so that it works when they hang.
///
/// @unchecked Sendable: `firstTold` and `sources` are used on `queue` alone, once ``start()`` has returned.
final class ImpatientEnd: @unchecked Sendable {
    private let queue = DispatchQueue(label: "ebb.end", qos: .userInteractive)
    private var sources: [any DispatchSourceSignal] = []
    private var firstTold: DispatchTime?
    private let grace: Duration
    private let socket: String?
    private let logger: Logger

    /// Seconds beyond the grace that last frames and the engine's last step get.
    private static let patience = 10
    /// Milliseconds within which two signals are one: timeout(1) and some supervisors send theirs to the process and to
    /// its group.
    private static let oneSignal = 200

    /// - Parameter socket: the path to remove; nil where it is the service manager's.
    init(grace: Duration, socket: String?, logger: Logger) {
        (self.grace, self.socket, self.logger) = (grace, socket, logger)
    }

    func start() {
        for number in [SIGTERM, SIGINT] {
            let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
            source.setEventHandler { [weak self] in self?.hear(number) }
            source.resume()
            sources.append(source)
        }
    }

    private func hear(_ number: Int32) {
        if let firstTold {
            guard DispatchTime.now() > firstTold + .milliseconds(Self.oneSignal) else { return }
            end(number, "told to stop again: ending at once")
        }
        firstTold = .now()
        let seconds = Int(clamping: grace.components.seconds) + Self.patience
        queue.asyncAfter(deadline: .now() + .seconds(seconds)) { self.end(number, "stopping takes too long: ending") }
    }

    private func end(_ number: Int32, _ why: String) {
        logger.warning("\(why)")
        if let socket { unlink(socket) }
        // As the signal would have, so that whoever sent it sees that it did.
        signal(number, SIG_DFL)
        kill(getpid(), number)
        usleep(100_000)
        _exit(128 + number)
    }
}
