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
}
