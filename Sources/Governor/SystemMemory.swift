/// Figures of the system's memory, from /proc/meminfo.
public struct SystemMemory: Sendable, Equatable {
    public var total: Int
    /// What programs could get without swapping.
    public var available: Int

    /// What is available of all, 0...1.
    public var availableShare: Double { Double(available) / Double(max(total, 1)) }

    public init(total: Int, available: Int) { (self.total, self.available) = (total, available) }

    private static let file = HeldFile("/proc/meminfo")

    /// nil where /proc/meminfo cannot be read.
    public static func now() -> SystemMemory? { file.text().flatMap(SystemMemory.init(meminfo:)) }

    /// Parses the text of /proc/meminfo.
    public init?(meminfo: String) {
        var found: [Substring: Int] = [:]
        for line in meminfo.split(separator: "\n") {
            let parts = line.split(whereSeparator: { $0 == " " || $0 == ":" })
            if parts.count >= 2, let kilobytes = Int(parts[1]), (0..<Int.max / 1024).contains(kilobytes) {
                found[parts[0]] = kilobytes * 1024
            }
        }
        guard let total = found["MemTotal"], let available = found["MemAvailable"] else { return nil }
        (self.total, self.available) = (total, available)
    }
}
