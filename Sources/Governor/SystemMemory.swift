import Glibc

/// Figures of the system's memory, from /proc/meminfo.
public struct SystemMemory: Sendable, Equatable {
    public var total: Int
    /// What programs could get without swapping.
    public var available: Int

    /// What is available of all, 0...1.
    public var availableShare: Double { Double(available) / Double(max(total, 1)) }

    /// nil where /proc/meminfo cannot be read.
    public static func now() -> SystemMemory? { textFile("/proc/meminfo").flatMap(SystemMemory.init(meminfo:)) }

    /// Parses the text of /proc/meminfo.
    public init?(meminfo: String) {
        var found: [Substring: Int] = [:]
        for line in meminfo.split(separator: "\n") {
            let parts = line.split(whereSeparator: { $0 == " " || $0 == ":" })
            if parts.count >= 2, let kilobytes = Int(parts[1]), kilobytes < Int.max / 1024 {
                found[parts[0]] = kilobytes * 1024
            }
        }
        guard let total = found["MemTotal"], let available = found["MemAvailable"] else { return nil }
        (self.total, self.available) = (total, available)
    }
}

/// A small text file's content; nil where it cannot be read.
public func textFile(_ path: String) -> String? {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return nil }
    defer { close(fd) }
    var bytes = [UInt8](repeating: 0, count: 16384)
    let count = read(fd, &bytes, bytes.count)
    return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
}
