import Governor
import Synchronization

/// What the monitor's thread tells the engine's.
struct GovernorNews: Sendable {
    var view: PressureView
    /// Bytes that the system, and the own control group, could give.
    var available: Int
    /// Monotonic seconds.
    var now: Double
}

/// The last word of the governor, until the engine thread takes it: between two steps, or, when it is bad news, between
/// two layers.
final class PressureInbox: Sendable {
    private let box = Mutex<GovernorNews?>(nil)
    /// The level of what is in the box; looked at between layers without a lock.
    private let level = Atomic<Int>(0)

    func put(_ news: GovernorNews) {
        box.withLock { box in
            var news = news
            // A word that came with an event must not lose its time to a tick that follows at once.
            if let before = box, news.view.wokenAt == nil { news.view.wokenAt = before.view.wokenAt }
            box = news
        }
        level.store(news.view.level.rawValue, ordering: .relaxed)
    }

    func take() -> GovernorNews? {
        box.withLock { box in
            defer { box = nil }
            return box
        }
    }

    func takeIfWorse(than known: PressureLevel) -> GovernorNews? {
        level.load(ordering: .relaxed) > known.rawValue ? take() : nil
    }
}
