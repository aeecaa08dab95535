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
        guard !path.isEmpty else { throw ServiceError(.badRequest, "the socket's path is empty; give --socket a path") }
        try Self.makeFolder(of: path)
        let lockPath = path + ".lock"
        let lock = open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lock >= 0 else {
            throw ServiceError(.internal, FormatError.system("cannot create \(lockPath)").description)
        }
        do {
            try Self.take(lock, path)
        } catch {
            close(lock)
            throw error
        }
        // Only now: whoever is deinitialized removes the socket.
        (self.path, self.lock) = (path, lock)
    }

    private static func makeFolder(of path: String) throws {
        let folder = path.split(separator: "/").dropLast().joined(separator: "/")
        guard path.hasPrefix("/"), !folder.isEmpty, access("/" + folder, F_OK) != 0 else { return }
        guard mkdir("/" + folder, 0o755) == 0 || errno == EEXIST else {
            throw ServiceError(.internal, FormatError.system("cannot create /\(folder)").description)
        }
    }

    private static func take(_ lock: Int32, _ path: String) throws {
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            throw ServiceError(.internal, "another ebbd is serving \(path); stop it, or give --socket another path")
        }
        var info = stat()
        guard lstat(path, &info) == 0 else { return }
        guard info.st_mode & S_IFMT == S_IFSOCK else {
            throw ServiceError(.internal, "\(path) exists and is no socket; it is left alone")
        }
        unlink(path)
    }

    deinit {
        unlink(path)
        unlink(path + ".lock")
        close(lock)
    }
}
