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
    }

    /// Bytes of the mapping that are in RAM now, by mincore(2); 0 where the kernel does not say.
    public var residentBytes: Int {
        let page = sysconf(Int32(_SC_PAGESIZE))
        var map = [UInt8](repeating: 0, count: (bytes.count + page - 1) / page)
        guard mincore(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count, &map) == 0 else { return 0 }
        return min(bytes.count, map.reduce(0) { $0 + Int($1 & 1) } * page)
    }

    deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count) }
}
