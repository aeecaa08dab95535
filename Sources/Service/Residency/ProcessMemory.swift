import Glibc

/// What the process takes, as the kernel counts it (/proc/self/smaps_rollup).
public struct ProcessMemory: Sendable, Equatable {
    /// Bytes that exist nowhere else: they need swap to go away.
    public var anonymous: Int
    /// Bytes of files: clean pages that the kernel can take back.
    public var file: Int

    /// nil where the file cannot be read.
    public static func now() -> ProcessMemory? {
        guard let stream = fopen("/proc/self/smaps_rollup", "re") else { return nil }
        defer { fclose(stream) }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = fread(&bytes, 1, bytes.count, stream)
        return ProcessMemory(smapsRollup: String(decoding: bytes[..<count], as: UTF8.self))
    }

    init?(smapsRollup text: String) {
        var found: [Substring: Int] = [:]
        for line in text.split(separator: "\n") {
            let parts = line.split(whereSeparator: { $0 == " " || $0 == ":" })
            if parts.count >= 2, let kilobytes = Int(parts[1]) { found[parts[0]] = kilobytes << 10 }
        }
        guard let rss = found["Rss"], let anonymous = found["Anonymous"] else { return nil }
        self.anonymous = anonymous
        file = max(0, rss - anonymous)
    }
}
