import Glibc
import Synchronization

/// A small text file of the kernel's that is read again and again through one descriptor: a process at its limit of
/// descriptors must not go blind.
public final class HeldFile: Sendable {
    public let path: String
    private let descriptor: Mutex<Int32>
    /// The longest such file, memory.stat, has some thousand bytes.
    private static let limit = 65_536

    /// Opens the file; where that fails, each read tries again.
    public init(_ path: String) {
        self.path = path
        descriptor = Mutex(Self.open(path))
    }

    deinit { descriptor.withLock { if $0 >= 0 { close($0) } } }

    private static func open(_ path: String) -> Int32 { Glibc.open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) }

    /// What the file says now; nil where it cannot be read, or is empty.
    public func text() -> String? {
        descriptor.withLock { fd in
            if fd < 0 { fd = Self.open(path) }
            guard fd >= 0 else { return nil }
            var bytes = [UInt8](repeating: 0, count: 4096)
            var used = 0
            while used < Self.limit {
                if used == bytes.count { bytes += [UInt8](repeating: 0, count: bytes.count) }
                let count = bytes.withUnsafeMutableBytes {
                    pread(fd, $0.baseAddress.map { $0 + used }, $0.count - used, used)
                }
                if count < 0, errno == EINTR { continue }
                guard count >= 0 else {
                    // Of a control group that is no more: another of the same name would have another file.
                    close(fd)
                    fd = -1
                    return nil
                }
                if count == 0 { break }
                used += count
            }
            return used > 0 ? String(decoding: bytes[..<used], as: UTF8.self) : nil
        }
    }
}
