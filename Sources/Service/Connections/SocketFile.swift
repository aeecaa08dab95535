import Glibc
import ModelFormat

/// The daemon's place in the file system: a lock that says that the socket is served, and the socket's path.
///
/// A stale socket file of a daemon that died is removed; one that is served is left alone.
final class SocketFile: Sendable {
    private let path: String
    private let lock: Int32

    /// - Throws: ``ServiceError`` where another daemon serves this socket, or the folder cannot be used.
    init(claiming path: String) throws {
        self.path = path
        let folder = path.split(separator: "/").dropLast().joined(separator: "/")
        if path.hasPrefix("/"), !folder.isEmpty, access("/" + folder, F_OK) != 0 {
            guard mkdir("/" + folder, 0o755) == 0 || errno == EEXIST else {
                throw ServiceError(.internal, FormatError.system("cannot create /\(folder)").description)
            }
        }
        let lockPath = path + ".lock"
        lock = open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lock >= 0 else { throw ServiceError(.internal, FormatError.system("cannot create \(lockPath)").description) }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            close(lock)
            throw ServiceError(.overloaded, "another ebbd is serving \(path); stop it, or give --socket another path")
        }
        var info = stat()
        if lstat(path, &info) == 0 {
            guard info.st_mode & S_IFMT == S_IFSOCK else {
                close(lock)
                throw ServiceError(.internal, "\(path) exists and is no socket; it is left alone")
            }
            unlink(path)
        }
    }

    deinit {
        unlink(path)
        unlink(path + ".lock")
        close(lock)
    }
}
