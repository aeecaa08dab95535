import Synchronization

/// The operator's word: a level that holds for a while.
public final class OperatorSource: PressureSource {
    public let name = "operator"
    private let word = Mutex<(level: PressureLevel, until: Double)>((.nominal, 0))
    private let clock: @Sendable () -> Double

    public init(clock: @escaping @Sendable () -> Double = MonotonicClock.now) { self.clock = clock }

    /// Says a level for some seconds; 0 takes the last word back.
    public func say(_ level: PressureLevel, seconds: Double) {
        let until = clock() + seconds
        word.withLock { $0 = (level, until) }
    }

    public func read() -> PressureReading {
        let (level, until) = word.withLock { $0 }
        let rest = until - clock()
        guard rest > 0 else { return PressureReading(level: .nominal, text: "silent") }
        return PressureReading(level: level, text: "says \(level) for \(Int(rest.rounded(.up))) s more", until: until)
    }
}
