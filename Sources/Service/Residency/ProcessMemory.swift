import Glibc
import Governor

/// What the process takes, as the kernel counts it: /proc/self/smaps_rollup, or /proc/self/statm where that is missing.
public struct ProcessMemory: Sendable, Equatable {
    /// Bytes that exist nowhere else: they need swap to go away.
    public var anonymous: Int
    /// Bytes of files: clean pages that the kernel can take back.
    public var file: Int

    private static let rollup = HeldFile("/proc/self/smaps_rollup")
    private static let statm = HeldFile("/proc/self/statm")

    /// nil where neither can be read.
    public static func now() -> ProcessMemory? {
        if let memory = rollup.text().flatMap(ProcessMemory.init(smapsRollup:)) { return memory }
        return estimate()
    }

    /// From counters alone, without a walk over the mappings: a few hundred KiB off at times.
    static func estimate() -> ProcessMemory? {
        statm.text().flatMap { ProcessLimits.Statm($0, pageBytes: sysconf(Int32(_SC_PAGESIZE))) }.map(
            ProcessMemory.init)
    }

    init(_ statm: ProcessLimits.Statm) {
        anonymous = max(0, statm.resident - statm.shared)
        file = min(statm.shared, statm.resident)
    }

    init?(smapsRollup text: String) {
        var found: [Substring: Int] = [:]
        for line in text.split(separator: "\n") {
            let parts = line.split(whereSeparator: { $0 == " " || $0 == ":" })
            if parts.count >= 2, let kilobytes = Int(parts[1]), (0..<Int.max >> 10).contains(kilobytes) {
                found[parts[0]] = kilobytes << 10
            }
        }
        guard let rss = found["Rss"], let anonymous = found["Anonymous"] else { return nil }
        self.anonymous = anonymous
        file = max(0, rss - anonymous)
    }
}
