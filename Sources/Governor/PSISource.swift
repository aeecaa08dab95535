import Glibc
import Synchronization

/// Stalls for memory as the kernel counts them: by triggers, which wake the monitor at once, or, where the kernel refuses
/// them or the file has vanished, by the averages that it keeps.
public final class PSISource: PressureSource {
    public let name: String
    private let path: String
    private let file: PSIFile
    private let clock: @Sendable () -> Double
    private let availableShare: @Sendable () -> Double?
    private let state: Mutex<State>

    private struct State {
        /// Descriptors of the triggers, while they are in use, by the level that they tell of.
        var triggers: [(level: PressureLevel, descriptor: Int32)] = []
        /// When they last told.
        var lastWarning: Double?
        var lastCritical: Double?
        /// Why the averages are read instead of triggers.
        var refusal: String?
    }

    /// Microseconds. Windows that an unprivileged process may use are multiples of 2 s.
    private static let window = 2_000_000
    /// 5 % of the window with some task stalled; 5 % with all of them stalled. 1 % says nothing but that the other sources
    /// are worth a look: the kernel has begun to take pages back.
    private static let triggers: [(level: PressureLevel, text: String)] = [
        (.warning, "some 100000 \(window)"), (.critical, "full 100000 \(window)"), (.nominal, "some 20000 \(window)"),
    ]
    public static let systemPath = "/proc/pressure/memory"
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
        path: String = PSISource.systemPath, what: String = "system",
        clock: @escaping @Sendable () -> Double = MonotonicClock.now,
        availableShare: @escaping @Sendable () -> Double? = { nil }
    ) {
        self.path = path
        file = PSIFile(path: path)
        guard file.averages != nil else { return nil }
        name = "PSI \(what)"
        self.clock = clock
        self.availableShare = availableShare
        var state = State()
        for (level, text) in Self.triggers {
            switch file.arm(text) {
            case .success(let descriptor): state.triggers.append((level, descriptor))
            case .failure(let refusal): state.refusal = refusal.text
            }
        }
        if state.refusal != nil { Self.disarm(&state) }
        self.state = Mutex(state)
    }

    deinit { state.withLock { Self.disarm(&$0) } }

    private static func disarm(_ state: inout State) {
        for trigger in state.triggers { close(trigger.descriptor) }
        state.triggers = []
    }

    public var watched: [(descriptor: Int32, events: Int16)] {
        state.withLock { $0.triggers.map { ($0.descriptor, Int16(POLLPRI)) } }
    }

    /// A group's stalls are those of its own tasks: where it is idle it tells nothing of the system.
    public var coversSystem: Bool { path == Self.systemPath && !watched.isEmpty }

    public func ready(_ descriptor: Int32, events: Int16) {
        let now = clock()
        state.withLock { state in
            if events & Int16(POLLERR | POLLNVAL) != 0 {
                // The file has gone, with its cgroup for instance.
                Self.disarm(&state)
                state.refusal = "the trigger ended"
                return
            }
            switch state.triggers.first(where: { $0.descriptor == descriptor })?.level {
            case .warning: state.lastWarning = now
            case .critical: state.lastCritical = now
            case .nominal, nil: break
            }
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
        let (what, last): (String, Double?)
        switch level {
        case .nominal: (what, last) = ("no stall", nil)
        case .warning: (what, last) = ("some tasks stall", state.lastWarning)
        case .critical: (what, last) = ("all tasks stall", state.lastCritical)
        }
        return PressureReading(
            level: level, text: "\(what) (trigger, window \(Self.window / 1_000_000) s)",
            until: last.map { $0 + Double(Self.window) * 1e-6 })
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
