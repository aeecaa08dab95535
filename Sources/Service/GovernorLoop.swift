import Engine
import Governor
import Synchronization

/// Asks the sources, a few times a second, and tells the engine what follows.
final class GovernorLoop: Sendable {
    struct View: Sendable {
        var level: PressureLevel = .nominal
        var readings: [(name: String, text: String)] = []
    }

    private let sources: [any PressureSource]
    private let thread: EngineThread
    private let interval: Duration
    private let tracker: Mutex<LevelTracker>
    private let last = Mutex(View())

    init(sources: [any PressureSource], thread: EngineThread, interval: Duration, dwell: Double) {
        self.sources = sources
        self.thread = thread
        self.interval = interval
        tracker = Mutex(LevelTracker(dwell: dwell))
    }

    var view: View { last.withLock { $0 } }

    /// Runs until the task is cancelled.
    func run() async {
        let clock = ContinuousClock()
        let start = clock.now
        while !Task.isCancelled {
            tick(now: (clock.now - start).seconds)
            try? await clock.sleep(for: interval)
        }
    }

    private func tick(now: Double) {
        let readings = sources.map { (name: $0.name, reading: $0.read()) }
        let (level, nominalSince) = tracker.withLock { tracker in
            tracker.update(readings.map(\.reading.level), now: now)
            return (tracker.level, tracker.nominalSince)
        }
        last.withLock { $0 = View(level: level, readings: readings.map { ($0.name, $0.reading.text) }) }
        thread.govern(level: level, calm: now - nominalSince, available: SystemMemory.now()?.available ?? 0)
    }
}
