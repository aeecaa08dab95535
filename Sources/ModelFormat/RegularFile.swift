import Glibc

/// Opens files of unknown origin: a pipe, a socket or a device is refused, and never waited for.
enum RegularFile {
    /// - Parameter name: for messages.
    /// - Throws: ``FormatError``.
    static func open(_ path: String, named name: String? = nil) throws -> (fd: Int32, info: stat) {
        let name = name ?? path
        // Looked at before, since opening a device may do something; without waiting, should it become a pipe in between.
        var info = stat()
        guard stat(path, &info) == 0 else { throw FormatError.system("cannot open \(name)") }
        guard info.st_mode & S_IFMT == S_IFREG else { throw FormatError("\(name) is not a regular file") }
        let fd = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard fd >= 0 else { throw FormatError.system("cannot open \(name)") }
        guard fstat(fd, &info) == 0 else {
            let error = FormatError.system("cannot read \(name)")
            close(fd)
            throw error
        }
        guard info.st_mode & S_IFMT == S_IFREG else {
            close(fd)
            throw FormatError("\(name) is not a regular file")
        }
        return (fd, info)
    }

    /// The bytes of a file.
    /// - Throws: ``FormatError``, also where there are more than `limit`.
    static func read(_ path: String, limit: Int) throws -> [UInt8] {
        let (fd, info) = try open(path)
        defer { close(fd) }
        guard info.st_size <= limit else {
            throw FormatError("\(path) has \(info.st_size) bytes: at most \(limit) are read")
        }
        return try [UInt8](unsafeUninitializedCapacity: Int(info.st_size)) { buffer, count in
            while count < buffer.count, let base = buffer.baseAddress {
                let n = Glibc.read(fd, base + count, buffer.count - count)
                if n < 0, errno == EINTR { continue }
                guard n >= 0 else { throw FormatError.system("cannot read \(path)") }
                if n == 0 { break }
                count += n
            }
        }
    }
}
