import Glibc
import ModelFormat

/// Which file a name stands for, and as of when: another one, or one that was written over, has another identity.
struct FileIdentity: Sendable, Hashable {
    let device, inode, byteCount: Int
    /// When it was last written, nanoseconds since 1970.
    let modified: Int

    /// - Throws: `FormatError` where there is no such file, it cannot be reached, or it is no regular file.
    init(_ path: String) throws {
        var info = stat()
        guard stat(path, &info) == 0 else { throw FormatError.system("cannot look at \(path)") }
        guard info.st_mode & S_IFMT == S_IFREG else { throw FormatError("\(path) is not a regular file") }
        (device, inode, byteCount) = (Int(info.st_dev), Int(info.st_ino), Int(info.st_size))
        modified = info.st_mtim.tv_sec &* 1_000_000_000 &+ info.st_mtim.tv_nsec
    }
}
