/// The level that Ebb acts on, from the readings of its sources: up at once, down one step at a time and only after
/// calm. Pure: time comes in as a value (seconds of a monotonic clock).
public struct LevelTracker: Sendable {
    /// Seconds without a reading at or above a level before that level is left. Long enough that a square wave of
    /// pressure with the period of PSI's 2 s window stays one event.
    public let dwell: Double
    public private(set) var level: PressureLevel = .nominal
    /// Whether each source told its level the last time.
    public private(set) var isSure = true
    /// When the level was last confirmed or changed.
    private var since: Double
    /// While it is nominal: since when, and every source says so; growing waits from here. While it is not: when it left
    /// nominal.
    public private(set) var phaseSince: Double

    public init(dwell: Double = 5, now: Double = 0) {
        self.dwell = dwell
        (since, phaseSince) = (now, now)
    }

    /// When it is left for the next lower one, if no source says otherwise until then.
    public var fallsAt: Double { since + dwell }

    /// Takes what the sources say now; the most severe counts. One that says nothing (nil) leaves the level to the others,
    /// but there is no calm while it does.
    public mutating func update(_ readings: [PressureLevel?], now: Double) {
        let known = readings.compactMap { $0 }
        isSure = known.count == readings.count
        let worst = known.max() ?? .nominal
        if level == .nominal, worst > .nominal || !isSure { phaseSince = now }
        if worst >= level {
            if worst > .nominal || level > worst { since = now }
            level = worst
        } else if now - since >= dwell {
            level = PressureLevel(rawValue: level.rawValue - 1) ?? .nominal
            since = now
            if level == .nominal { phaseSince = now }
        }
    }
}
