import CEbbSystem
import Glibc

/// A file mapped read-only. Its pages stay clean: the kernel may take them back at any time and read them again.
///
/// @unchecked Sendable: the mapping is never written and lives exactly as long as this object.
public final class MappedFile: @unchecked Sendable {
    public let path: String
    public let bytes: UnsafeRawBufferPointer

    /// - Throws: ``FormatError`` if the file cannot be opened, is empty, or is not a regular file.
    public init(path: String) throws {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { throw FormatError.system("cannot open \(path)") }
        defer { close(fd) }
        var info = stat()
        guard fstat(fd, &info) == 0 else { throw FormatError.system("cannot read \(path)") }
        guard info.st_mode & S_IFMT == S_IFREG else { throw FormatError("\(path) is not a regular file") }
        let size = Int(info.st_size)
        guard size > 0 else { throw FormatError("\(path) is empty") }
        guard let base = mmap(nil, size, PROT_READ, MAP_SHARED, fd, 0), base != MAP_FAILED else {
            throw FormatError.system("cannot map \(path)")
        }
        self.path = path
        bytes = UnsafeRawBufferPointer(start: base, count: size)
        identity = Identity(info)
        guardNumber = ebb_guard_add(base, size)
    }

    deinit {
        ebb_guard_remove(guardNumber)
        munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
    }

    private let identity: Identity
    private let guardNumber: Int32

    private struct Identity: Equatable {
        let device, inode, size, seconds, nanoseconds: Int

        init(_ info: stat) {
            (device, inode, size) = (Int(info.st_dev), Int(info.st_ino), Int(info.st_size))
            (seconds, nanoseconds) = (info.st_mtim.tv_sec, info.st_mtim.tv_nsec)
        }
    }

    /// When the file was last written, nanoseconds since 1970.
    public var modified: Int { identity.seconds &* 1_000_000_000 &+ identity.nanoseconds }

    /// What has become of the file since it was mapped.
    public enum Change: Sendable, Equatable {
        case none
        /// It was cut short or written over: what the mapping holds is no longer the model.
        case damaged
        /// Its name is another file's, or nobody's; the mapping still holds the old one.
        case replaced
    }

    /// Whether a read has failed: pages beyond the file's new end read as zeros since then.
    public var isCutShort: Bool { ebb_guard_is_damaged(guardNumber) != 0 }

    public var change: Change {
        if isCutShort { return .damaged }
        var info = stat()
        guard stat(path, &info) == 0 else { return .replaced }
        let now = Identity(info)
        if now == identity { return .none }
        return now.device == identity.device && now.inode == identity.inode ? .damaged : .replaced
    }

    /// Takes the mapping's pages out of RAM, as far as the kernel allows; they are read again when they are used.
    public func pageOut() {
        guard let base = UnsafeMutableRawPointer(mutating: bytes.baseAddress) else { return }
        // Only the owner of a file may page it out; everyone may let go of it.
        if ebb_page_out(base, bytes.count) != 0 { madvise(base, bytes.count, MADV_COLD) }
        madvise(base, bytes.count, MADV_DONTNEED)
    }
}
