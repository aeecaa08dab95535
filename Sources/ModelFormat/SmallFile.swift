import Glibc

/// Small files that are read whole: settings, recipes, calibrations.
public enum SmallFile {
    /// The bytes of a regular file, read once; a byte order mark (of UTF-8) at the start is left out. Nothing is waited
    /// for: a pipe or a device is refused, not read.
    /// - Throws: ``FormatError`` where it cannot be read, is no regular file, or is longer than `limit`.
    public static func read(_ path: String, limit: Int) throws -> [UInt8] {
        let (fd, info) = try RegularFile.open(path)
        defer { close(fd) }
        // One byte more than allowed: so much is read of a file that is too long, or grows meanwhile.
        var bytes = [UInt8](repeating: 0, count: min(max(0, Int(info.st_size)), limit) + 1)
        var count = 0
        while true {
            let got = bytes.withUnsafeMutableBytes { room in
                Glibc.read(fd, room.baseAddress?.advanced(by: count), room.count - count)
            }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw FormatError.system("cannot read \(path)") }
            count += got
            guard count <= limit else { throw FormatError("\(path) is longer than \(limit >> 10) KiB") }
            if got == 0 { break }
            if count == bytes.count {
                bytes.append(contentsOf: repeatElement(0, count: min(limit + 1 - count, 65_536)))
            }
        }
        bytes.removeLast(bytes.count - count)
        if bytes.starts(with: byteOrderMark) { bytes.removeFirst(byteOrderMark.count) }
        return bytes
    }

    /// U+FEFF in UTF-8.
    public static let byteOrderMark: [UInt8] = [0xef, 0xbb, 0xbf]
}
