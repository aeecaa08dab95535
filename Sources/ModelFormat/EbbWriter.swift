import Glibc
import Quantization

/// Writes an `.ebb` file: to a temporary name, fsynced, then renamed. Tensors are appended in the order of the plan,
/// each in pieces, so memory does not grow with the model. Dropped before ``finish(checking:)`` it leaves nothing behind;
/// what a killed process leaves is removed by the next writer of that name, and by ``ModelStore/removeLeftovers()``.
public final class EbbWriter {
    private let destination: String
    private let temporary: String
    private let fd: Int32
    private let shapes: [TensorShape]
    private let sizes: [Int]
    private let offsets: [Int]
    private let metadata: [UInt8]
    private let fileBytes: Int
    private var checksums: [UInt64] = []
    private var running = Checksum()
    private var written = 0
    private var finished = false
    /// Reads of cut files before this one was begun.
    private let readFailures = MappedFile.readFailures

    /// - Throws: ``FormatError`` for an impossible shape, or when the file cannot be made.
    public init(destination: String, metadata encoder: MetadataEncoder, shapes: [TensorShape]) throws {
        self.destination = destination
        self.shapes = shapes
        var head: [UInt8] = []
        encoder.count.appendEncoded(to: &head)
        metadata = head + encoder.bytes
        sizes = try shapes.map { shape in
            guard let bytes = shape.byteCount else { throw FormatError("the shape of \(shape.name) is impossible") }
            return bytes
        }
        (offsets, fileBytes) = Self.layout(shapes, sizes, metadataBytes: metadata.count)
        let (folder, name) = Self.split(destination)
        Leftovers.remove(in: folder) { $0.hasPrefix(name + Self.mark) }
        (fd, temporary) = try Leftovers.create {
            destination + Self.mark + String(UInt64.random(in: 0 ... .max), radix: 36)
        }
    }

    /// What stands between a file's name and what makes its temporary name unique.
    static let mark = ".partial-"

    private static func split(_ path: String) -> (folder: String, name: String) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let folder = parts.dropLast().joined(separator: "/")
        return (folder.isEmpty ? (path.hasPrefix("/") ? "/" : ".") : folder, String(parts.last ?? ""))
    }

    private static func layout(_ shapes: [TensorShape], _ sizes: [Int], metadataBytes: Int) -> ([Int], Int) {
        let tableBytes = shapes.reduce(8) { $0 + $1.name.utf8.count + 8 + 44 }
        var at = EbbLayout.headerBytes + metadataBytes + tableBytes
        var offsets: [Int] = []
        for (shape, size) in zip(shapes, sizes) {
            at = EbbLayout.aligned(at, to: shape.alignment)
            offsets.append(at)
            at += size
        }
        return (offsets, at)
    }

    /// Bytes of a file with these parts.
    public static func byteCount(metadata: MetadataEncoder, shapes: [TensorShape]) -> Int {
        layout(shapes, shapes.map { $0.byteCount ?? 0 }, metadataBytes: metadata.bytes.count + 8).1
    }

    deinit {
        close(fd)
        if !finished { unlink(temporary) }
    }

    /// Bytes that the finished file takes.
    public var totalBytes: Int { fileBytes }

    /// Appends a piece of the current tensor; goes on to the next tensor when it is complete.
    public func append(_ bytes: UnsafeRawBufferPointer) throws {
        let current = checksums.count
        guard current < shapes.count, written + bytes.count <= sizes[current] else {
            throw FormatError("more bytes than planned for a tensor of \(destination)")
        }
        try write(bytes, at: offsets[current] + written)
        running.update(bytes)
        written += bytes.count
        if written == sizes[current] {
            checksums.append(running.value)
            running = Checksum()
            written = 0
        }
    }

    /// Writes header and table, syncs, and gives the file its name.
    /// - Parameter check: looks at the finished file before it gets its name; what it throws leaves no file.
    public func finish(checking check: (EbbFile) throws -> Void = { _ in }) throws {
        guard checksums.count == shapes.count else { throw FormatError("\(destination) is incomplete") }
        let table = encodedTable()
        var header: [UInt8] = EbbLayout.magic
        EbbLayout.version(of: shapes).appendEncoded(to: &header)
        UInt32(0).appendEncoded(to: &header)
        UInt64(fileBytes).appendEncoded(to: &header)
        UInt64(EbbLayout.headerBytes).appendEncoded(to: &header)
        UInt64(metadata.count).appendEncoded(to: &header)
        UInt64(table.count).appendEncoded(to: &header)
        var sum = Checksum()
        for part in [header, metadata, table] { part.withUnsafeBytes { sum.update($0) } }
        sum.value.appendEncoded(to: &header)
        header.append(contentsOf: [UInt8](repeating: 0, count: EbbLayout.headerBytes - header.count))
        try (header + metadata + table).withUnsafeBytes { try write($0, at: 0) }
        guard fsync(fd) == 0 else { throw FormatError.system("cannot write \(temporary)") }
        let file = try EbbFile(path: temporary, named: destination)
        try file.demandFinite()
        try check(file)
        try MappedFile.demandWhole(known: readFailures)
        guard rename(temporary, destination) == 0 else { throw FormatError.system("cannot create \(destination)") }
        finished = true
        syncFolder()
    }

    private func encodedTable() -> [UInt8] {
        var table: [UInt8] = []
        UInt64(shapes.count).appendEncoded(to: &table)
        for (index, shape) in shapes.enumerated() {
            shape.name.appendEncoded(to: &table)
            var (block, values): (Int32, UInt8) = (0, 0)
            switch shape.layout {
            case .vector: table += [0, 1, 0, 0, 0]
            case .matrix(.f32): table += [1, 1, 0, 0, 0]
            case .matrix(.f16): table += [1, 2, 0, 0, 0]
            case .matrix(.bf16): table += [1, 3, 0, 0, 0]
            case .matrix(.quantized(let scheme)):
                table += [1, 0, UInt8(scheme.bits), scheme.scale.rawValue, scheme.asymmetric ? 1 : 0]
                (block, values) = (Int32(scheme.block), scheme.values.rawValue)
            }
            table += [values, 0, 0]
            block.appendEncoded(to: &table)
            UInt32(shape.n).appendEncoded(to: &table)
            UInt32(shape.k).appendEncoded(to: &table)
            UInt64(offsets[index]).appendEncoded(to: &table)
            UInt64(sizes[index]).appendEncoded(to: &table)
            checksums[index].appendEncoded(to: &table)
        }
        return table
    }

    private func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
        var done = 0
        while done < bytes.count {
            guard let base = bytes.baseAddress else { return }
            let n = pwrite(fd, base + done, bytes.count - done, off_t(offset + done))
            if n < 0, errno == EINTR { continue }
            guard n > 0 else { throw FormatError.system("cannot write \(temporary)", code: n == 0 ? ENOSPC : errno) }
            done += n
        }
    }

    /// Makes the new name durable; a file system that cannot sync folders has nothing to lose here.
    private func syncFolder() {
        let fd = open(Self.split(destination).folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard fd >= 0 else { return }
        fsync(fd)
        close(fd)
    }
}
