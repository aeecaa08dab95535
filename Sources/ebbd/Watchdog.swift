import CEbbSystem
import Foundation
import Governor
import Logging
import Service
import Synchronization

/// Tells systemd's watchdog that the daemon gets on, from a thread of its own: one that tasks or event loops share could
/// be kept from it by what it is to notice.
final class Watchdog: Sendable {
    private let liveness: Liveness
    /// Seconds after which systemd ends a daemon that it has not heard of.
    private let limit: Double
    private let logger: Logger
    private let isStopped = Atomic<Bool>(false)

    /// nil where no watchdog is wanted.
    init?(_ liveness: Liveness, logger: Logger) {
        let limit = ebb_watchdog_usec()
        guard limit > 0 else { return nil }
        (self.liveness, self.limit, self.logger) = (liveness, Double(limit) / 1e6, logger)
        let thread = Thread { self.run() }
        thread.name = "ebb.watchdog"
        thread.start()
    }

    func stop() { isStopped.store(true, ordering: .relaxed) }

    /// Looks twice in the limit; a part that has not done until then what it was asked the last time is said to hang, and
    /// looked at often: it may still get on before systemd loses patience.
    private func run() {
        while !isStopped.load(ordering: .relaxed) {
            let hung = liveness.hung(now: MonotonicClock.now(), limit: limit / 3)
            if hung.isEmpty {
                Systemd.notify("WATCHDOG=1")
            } else {
                logger.error("no progress: \(hung.joined(separator: ", "))")
            }
            Thread.sleep(forTimeInterval: hung.isEmpty ? limit / 2 : limit / 12)
        }
    }
}
