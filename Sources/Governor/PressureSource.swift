/// Something that tells of memory pressure. Sources are asked from one thread, when ``LookPlan`` says so and whenever one
/// of their descriptors is ready; each can be replaced by a script in tests.
public protocol PressureSource: Sendable {
    /// A name for `ebbctl status`.
    var name: String { get }
    /// Descriptors that the kernel wakes the monitor for, with the events of poll(2).
    var watched: [(descriptor: Int32, events: Int16)] { get }
    /// Whether one of them becomes ready at once when the whole system gets short of memory, be this process busy or idle.
    var coversSystem: Bool { get }
    /// Told that a watched descriptor is ready.
    func ready(_ descriptor: Int32, events: Int16)
    /// What it says now.
    func read() -> PressureReading
}

extension PressureSource {
    public var watched: [(descriptor: Int32, events: Int16)] { [] }
    public var coversSystem: Bool { false }
    public func ready(_ descriptor: Int32, events: Int16) {}
}

/// MemAvailable as a share of MemTotal, by polling: for systems without PSI, and beside it, since the kernel reports
/// stalls only when memory is gone already.
public struct AvailableMemorySource: PressureSource {
    public let name = "MemAvailable"
    /// Below this share of the total the level is warning. systemd-oomd and earlyoom act at 10 %.
    private let warning: Double
    /// Below this share the level is critical.
    private let critical: Double

    public init(warning: Double = 0.10, critical: Double = 0.05) {
        self.warning = warning
        self.critical = critical
    }

    public func read() -> PressureReading {
        guard let memory = SystemMemory.now() else {
            return .unknown("/proc/meminfo cannot be read")
        }
        return reading(memory)
    }

    /// The level of a figure.
    public func reading(_ memory: SystemMemory) -> PressureReading {
        let share = memory.availableShare
        let level: PressureLevel = share < critical ? .critical : share < warning ? .warning : .nominal
        return PressureReading(level: level, text: "\(memory.available >> 20) of \(memory.total >> 20) MiB available")
    }
}
