import CEbbSystem

/// Seconds that never jump: what the governor's times are counted in. Setting the system's clock does not move it.
public enum MonotonicClock {
    public static func now() -> Double { ebb_seconds() }
}
