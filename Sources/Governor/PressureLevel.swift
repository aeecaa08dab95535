/// How scarce memory is.
public enum PressureLevel: Int, Sendable, Comparable, CaseIterable {
    case nominal, warning, critical

    public static func < (a: PressureLevel, b: PressureLevel) -> Bool { a.rawValue < b.rawValue }
}

/// What a source last said.
public struct PressureReading: Sendable, Equatable {
    /// nil: unknown, since the source cannot be read. That is no sign of calm: nothing grows meanwhile.
    public var level: PressureLevel?
    /// For people: `some avg10=0.00`, `12.3 GB of 24.1 GB available`.
    public var text: String
    /// Until when it holds, if time alone ends it; seconds of the monotonic clock.
    public var until: Double?

    public init(level: PressureLevel?, text: String, until: Double? = nil) {
        self.level = level
        self.text = text
        self.until = until
    }

    /// - Parameter why: the source tells nothing.
    public static func unknown(_ why: String) -> PressureReading { PressureReading(level: nil, text: why) }
}
