import Glibc

/// Files that are being made. Whoever makes one holds a lock on it, which ends with the process: a file whose lock can be
/// had is a leftover, and is removed.
public enum Leftovers {
    /// Makes a file that ``remove(in:where:)`` leaves alone for as long as it is open.
    /// - Parameter path: gives a new name each time.
    /// - Throws: ``FormatError``.
    public static func create(_ path: () -> String) throws -> (fd: Int32, path: String) {
        for attempt in 0..<16 {
            let path = path()
            let fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o644)
            if fd < 0, errno == EEXIST { continue }
            // The folder may have been taken for a leftover, too.
            if fd < 0, errno == ENOENT, attempt < 2 { continue }
            guard fd >= 0 else { throw FormatError.system("cannot create \(path)") }
            // Someone who clears up may have taken it for a leftover in between. Where a file system has no locks nobody
            // can, and nothing is cleared up either.
            if flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, isNamed(fd, path) { return (fd, path) }
            close(fd)
        }
        throw FormatError("cannot create \(path()): others keep removing it")
    }

    private static func isNamed(_ fd: Int32, _ path: String) -> Bool {
        var (mine, there) = (stat(), stat())
        return fstat(fd, &mine) == 0 && lstat(path, &there) == 0 && mine.st_ino == there.st_ino
            && mine.st_dev == there.st_dev
    }

    /// Removes the files of a folder that are of dead processes.
    /// - Parameter isTemporary: which names are those of files that are being made.
    /// - Returns: how many were removed.
    @discardableResult
    public static func remove(in folder: String, where isTemporary: (String) -> Bool) -> Int {
        ((try? FolderEntries.names(of: folder)) ?? []).count { name in
            isTemporary(name) && remove(folder + "/" + name)
        }
    }

    /// Removes a file that nobody holds; a link or anything else than a file of this user is left alone.
    private static func remove(_ path: String) -> Bool {
        guard let fd = lockIfDead(path) else { return false }
        defer { close(fd) }
        return isNamed(fd, path) && unlink(path) == 0
    }

    /// The lock of a file that nobody holds; nil where it is in use, or not this user's file.
    public static func lockIfDead(_ path: String) -> Int32? {
        let fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
        guard fd >= 0 else { return nil }
        var info = stat()
        guard fstat(fd, &info) == 0, info.st_mode & S_IFMT == S_IFREG, info.st_uid == geteuid(),
            flock(fd, LOCK_EX | LOCK_NB) == 0
        else {
            close(fd)
            return nil
        }
        return fd
    }
}

/// The names in a folder.
public enum FolderEntries {
    /// - Throws: ``FormatError`` where the folder cannot be read.
    public static func names(of folder: String) throws -> [String] {
        guard let entries = opendir(folder) else { throw FormatError.system("cannot read the folder \(folder)") }
        defer { closedir(entries) }
        var found: [String] = []
        errno = 0
        while let entry = readdir(entries) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            found.append(name)
            errno = 0
        }
        guard errno == 0 else { throw FormatError.system("cannot read the folder \(folder)") }
        return found.filter { $0 != "." && $0 != ".." }
    }
}
