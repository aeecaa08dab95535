import Glibc
import Synchronization

/// Stalls for memory as the kernel counts them: by triggers, which wake the monitor at once, or, where the kernel refuses
/// them or the file has vanished, by the averages that it keeps.
public final class PSISource: PressureSource {
    public let name: String
    private let file: PSIFile
    private let clock: @Sendable () -> Double
    private let availableShare: @Sendable () -> Double?
    private let state: Mutex<State>

    private struct State {
        /// Descriptors of the two triggers, while they are in use.
        var warning: Int32?
        var critical: Int32?
        var lastWarning: Double?
        var lastCritical: Double?
        /// Why the averages are read instead of triggers.
        var refusal: String?
    }

    /// Microseconds. Windows that an unprivileged process may use are multiples of 2 s.
    private static let window = 2_000_000
    /// 5 % of the window with some task stalled; 5 % with all of them stalled.
    private static let warningTrigger = "some 100000 \(window)"
    private static let criticalTrigger = "full 100000 \(window)"
    /// With more than this share of the memory available, stalls are those of some group at its own limit: nothing that
    /// Ebb gives up would help it.
    private static let plenty = 0.5
    /// The same shares of the averages, in percent.
    private static let warningAverage = 5.0
    private static let criticalAverage = 5.0

    /// nil where there is no such pressure file.
    /// - Parameters:
    ///   - what: whose pressure it is, for ``name``.
    ///   - availableShare: of the memory of whom it is, what is available, 0...1; nil where that does not count.
    public init?(
        path: String = "/proc/pressure/memory", what: String = "system",
        clock: @escaping @Sendable () -> Double = MonotonicClock.now,
        availableShare: @escaping @Sendable () -> Double? = { nil }
    ) {
        file = PSIFile(path: path)
        guard file.averages != nil else { return nil }
        name = "PSI \(what)"
        self.clock = clock
        self.availableShare = availableShare
        var state = State()
        switch (file.arm(Self.warningTrigger), file.arm(Self.criticalTrigger)) {
        case (.success(let warning), .success(let critical)): (state.warning, state.critical) = (warning, critical)
        case (.failure(let refusal), .success(let fd)), (.success(let fd), .failure(let refusal)):
            close(fd)
            state.refusal = refusal.text
        case (.failure(let refusal), .failure): state.refusal = refusal.text
        }
        self.state = Mutex(state)
    }

    deinit { state.withLock { Self.disarm(&$0) } }

    private static func disarm(_ state: inout State) {
        for fd in [state.warning, state.critical].compactMap({ $0 }) { close(fd) }
        (state.warning, state.critical) = (nil, nil)
    }

    public var watched: [(descriptor: Int32, events: Int16)] {
        state.withLock { state in [state.warning, state.critical].compactMap { $0.map { ($0, Int16(POLLPRI)) } } }
    }

    public func ready(_ descriptor: Int32, events: Int16) {
        let now = clock()
        state.withLock { state in
            if events & Int16(POLLERR | POLLNVAL) != 0 {
                // The file has gone, with its cgroup for instance.
                Self.disarm(&state)
                state.refusal = "the trigger ended"
                return
            }
            if descriptor == state.warning { state.lastWarning = now }
            if descriptor == state.critical { state.lastCritical = now }
        }
    }

    public func read() -> PressureReading {
        var reading = stalls()
        if let level = reading.level, level > .nominal, let share = availableShare(), share > Self.plenty {
            reading.level = .nominal
            reading.text += "; \(Int(share * 100)) % is available, so some group is at its own limit"
        }
        return reading
    }

    private func stalls() -> PressureReading {
        let now = clock()
        let state = state.withLock { $0 }
        guard state.refusal == nil else { return readAverages(state.refusal ?? "") }
        func recent(_ last: Double?) -> Bool { last.map { now - $0 < Double(Self.window) * 1e-6 } ?? false }
        let level: PressureLevel =
            recent(state.lastCritical) ? .critical : recent(state.lastWarning) ? .warning : .nominal
        let what: String
        switch level {
        case .nominal: what = "no stall"
        case .warning: what = "some tasks stall"
        case .critical: what = "all tasks stall"
        }
        return PressureReading(level: level, text: "\(what) (trigger, window \(Self.window / 1_000_000) s)")
    }

    private func readAverages(_ why: String) -> PressureReading {
        guard let averages = file.averages else {
            return .unknown("\(file.path) cannot be read")
        }
        let level: PressureLevel =
            averages.full >= Self.criticalAverage
            ? .critical : averages.some >= Self.warningAverage ? .warning : .nominal
        return PressureReading(
            level: level, text: "some \(averages.some) %, full \(averages.full) % of 10 s (averages: \(why))")
    }
}
