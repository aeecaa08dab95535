import CKernels
import Dispatch
import Quantization
import Synchronization

/// A tensor of an `.ebb` file.
public struct EbbTensor: Sendable {
    public let shape: TensorShape
    /// Offset of the data in the file, and its length in bytes.
    public let offset: Int
    public let byteCount: Int
    let checksum: UInt64
}

/// An open `.ebb` file: mapped read-only and used in place. Opening checks the header, the metadata, the table of
/// tensors and all bounds; the weights themselves are checked by ``verify(progress:)``.
public final class EbbFile: Sendable, ModelDescription {
    public let metadata: Metadata
    public let tensors: [String: EbbTensor]
    /// Names in the file's order.
    public let names: [String]
    private let file: MappedFile
    private let header: Header
    private let rechecks = Rechecks()

    public var path: String { file.path }
    public var byteCount: Int { file.bytes.count }
    public var shapes: [TensorShape] { names.compactMap { tensors[$0]?.shape } }

    /// - Parameter name: for messages, where the file is to get another name than it has now.
    /// - Throws: ``FormatError``.
    public init(path: String, named name: String? = nil) throws {
        file = try MappedFile(path: path, named: name)
        let path = file.path
        header = try Header(file.bytes, path: path)
        var metadataCursor = ByteCursor(header.metadata(file.bytes), what: "\(path): metadata")
        let count = try metadataCursor.read(UInt64.self)
        guard count <= UInt64(header.metadataBytes / 13) else { throw FormatError("\(path): impossible metadata") }
        metadata = try Metadata(count: count, from: &metadataCursor, owner: file)
        // The table is read from a copy: nobody can change it between a check and its use.
        let (table, fileBytes) = (Array(header.table(file.bytes)), file.bytes.count)
        (names, tensors) = try table.withUnsafeBytes { try Self.table($0, path: path, fileBytes: fileBytes) }
        try header.demandVersion(EbbLayout.version(of: shapes), path: path)
    }

    /// The fields of the header, read once.
    private struct Header: Sendable {
        let version: UInt32
        let metadataBytes, tableBytes: Int
        let checksum: UInt64

        init(_ bytes: UnsafeRawBufferPointer, path: String) throws {
            let copy = Array(bytes.prefix(EbbLayout.headerBytes))
            self = try copy.withUnsafeBytes { try Header($0, fileBytes: bytes.count, path: path) }
            guard checksum == digest(bytes) else {
                throw FormatError("\(path): the checksum of its header is wrong; the file is damaged, import it again")
            }
        }

        private init(_ bytes: UnsafeRawBufferPointer, fileBytes: Int, path: String) throws {
            var cursor = ByteCursor(bytes, what: path)
            guard try cursor.take(8).elementsEqual(EbbLayout.magic) else {
                throw FormatError("\(path) is not an .ebb model (its first bytes are not EBBMODEL)")
            }
            version = try cursor.read(UInt32.self)
            guard EbbLayout.versions.contains(version) else {
                throw FormatError(
                    "\(path): container version \(version), this program reads \(EbbLayout.versions.lowerBound) to "
                        + "\(EbbLayout.versions.upperBound)")
            }
            _ = try cursor.read(UInt32.self)
            let size = try cursor.read(UInt64.self)
            guard size == UInt64(fileBytes) else {
                throw FormatError("\(path) is truncated or damaged: \(fileBytes) bytes, its header says \(size)")
            }
            let (metadataAt, metadata) = (try cursor.read(UInt64.self), try cursor.read(UInt64.self))
            let table = try cursor.read(UInt64.self)
            checksum = try cursor.read(UInt64.self)
            guard try cursor.read(UInt64.self) == 0 else { throw FormatError("\(path): the header is damaged") }
            guard metadataAt == UInt64(EbbLayout.headerBytes), metadata <= size, table <= size,
                metadataAt + metadata + table <= size
            else { throw FormatError("\(path): the header points outside the file") }
            (metadataBytes, tableBytes) = (Int(metadata), Int(table))
        }

        /// A program that reads version 1 alone would take what version 2 brought for something else.
        func demandVersion(_ needed: UInt32, path: String) throws {
            guard version >= needed else {
                throw FormatError(
                    "\(path): its header says version \(version), but it has matrices with a table of values or E8M0 scales, "
                        + "which need version \(needed); import the model again")
            }
        }

        func metadata(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
            UnsafeRawBufferPointer(rebasing: bytes[EbbLayout.headerBytes..<EbbLayout.headerBytes + metadataBytes])
        }

        func table(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
            let start = EbbLayout.headerBytes + metadataBytes
            return UnsafeRawBufferPointer(rebasing: bytes[start..<start + tableBytes])
        }

        /// What the checksum is to be.
        func digest(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
            var sum = Checksum()
            sum.update(UnsafeRawBufferPointer(rebasing: bytes[..<EbbLayout.checksummedHeaderBytes]))
            sum.update(metadata(bytes))
            sum.update(table(bytes))
            return sum.value
        }
    }

    private static func table(
        _ bytes: UnsafeRawBufferPointer, path: String, fileBytes: Int
    ) throws -> ([String], [String: EbbTensor]) {
        var cursor = ByteCursor(bytes, what: "\(path): table of tensors")
        let count = try cursor.read(UInt64.self)
        guard count <= UInt64(bytes.count / 48) else {
            throw FormatError("\(path): impossible number of tensors \(count)")
        }
        var names: [String] = []
        var tensors: [String: EbbTensor] = [:]
        for _ in 0..<count {
            let tensor = try entry(&cursor, path: path)
            let name = tensor.shape.name
            guard let expected = tensor.shape.byteCount, expected == tensor.byteCount,
                tensor.offset % tensor.shape.alignment == 0, tensor.byteCount <= fileBytes,
                tensor.offset <= fileBytes - tensor.byteCount
            else { throw FormatError("\(path): the place or size of \(name) is impossible") }
            guard tensors.updateValue(tensor, forKey: name) == nil else {
                throw FormatError("\(path): two tensors are named \(name)")
            }
            names.append(name)
        }
        return (names, tensors)
    }

    private static func entry(_ cursor: inout ByteCursor, path: String) throws -> EbbTensor {
        let name = try cursor.readString()
        let kind = try cursor.read(UInt8.self)
        let encoding = try cursor.read(UInt8.self)
        let bits = try cursor.read(UInt8.self)
        let scaleKind = try cursor.read(UInt8.self)
        let asymmetric = try cursor.read(UInt8.self)
        let values = try cursor.read(UInt8.self)
        _ = try cursor.take(2)
        let block = try cursor.read(Int32.self)
        let n = Int(try cursor.read(UInt32.self))
        let k = Int(try cursor.read(UInt32.self))
        let (offset, bytes) = (try cursor.read(UInt64.self), try cursor.read(UInt64.self))
        let checksum = try cursor.read(UInt64.self)
        guard let offset = Int(exactly: offset), let bytes = Int(exactly: bytes) else {
            throw FormatError("\(path): the place or size of \(name) is impossible")
        }
        let layout: TensorShape.Layout
        switch (kind, encoding) {
        case (0, 1): layout = .vector
        case (1, 0):
            guard let scale = ScaleKind(rawValue: scaleKind) else {
                throw FormatError("\(path): \(name) has the unknown scale kind \(scaleKind)")
            }
            guard let table = ValueTable(rawValue: values) else {
                throw FormatError("\(path): \(name) has the unknown table of values \(values)")
            }
            do {
                let scheme = try Scheme(
                    bits: Int(bits), block: Int(block), asymmetric: asymmetric != 0, scale: scale, values: table)
                layout = .matrix(.quantized(scheme))
            } catch { throw FormatError("\(path): \(name): \(error)") }
        case (1, 1): layout = .matrix(.f32)
        case (1, 2): layout = .matrix(.f16)
        case (1, 3): layout = .matrix(.bf16)
        default: throw FormatError("\(path): \(name) has the unknown encoding \(kind)/\(encoding)")
        }
        let shape = TensorShape(name: name, layout: layout, n: n, k: k)
        return EbbTensor(shape: shape, offset: offset, byteCount: bytes, checksum: checksum)
    }

    /// The bytes of a tensor, in the mapping: valid as long as this file lives.
    public func data(_ tensor: EbbTensor) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: file.bytes[tensor.offset..<tensor.offset + tensor.byteCount])
    }

    /// The whole mapping.
    public var bytes: UnsafeRawBufferPointer { file.bytes }

    /// What has become of the file since it was opened, by its times and size: microseconds. Where it says touched, the
    /// bytes have to be read to know more: ``recheck()``.
    public func look() -> MappedFile.Look { file.look() }

    /// Reads the whole file and compares it with the checksums that were read when it was opened, some tenths of a second
    /// for each GB. What is the same is unchanged from then on, however often it was touched; what differs stays damaged.
    public func recheck() -> MappedFile.Look {
        file.recheck { header.checksum == header.digest(file.bytes) && firstDamaged() == nil }
    }

    /// ``recheck()`` on a thread of its own; calls that come while one is under way wait for the same answer.
    public func recheck(then done: @escaping @Sendable (MappedFile.Look) -> Void) {
        rechecks.run({ self.recheck() }, then: done)
    }

    /// When the file was last written, nanoseconds since 1970.
    public var modified: Int { file.modified }

    /// Whether a read of the mapping has failed since it was opened: the file was cut short.
    public var isCutShort: Bool { file.isCutShort }

    /// Takes the file's pages out of RAM; they are read again when they are used.
    public func pageOut() { file.pageOut() }

    /// The kernels' view of a matrix, in the mapping; nil if there is none of that name.
    public func matrix(_ name: String) -> ebb_matrix? {
        guard let tensor = tensors[name], case .matrix(let encoding) = tensor.shape.layout,
            let base = data(tensor).baseAddress
        else { return nil }
        return encoding.matrix(data: base, n: tensor.shape.n, k: tensor.shape.k)
    }

    /// A copy of a vector; nil if there is none of that name.
    public func vector(_ name: String) -> [Float]? {
        guard let tensor = tensors[name], tensor.shape.layout == .vector else { return nil }
        let bytes = data(tensor)
        return (0..<tensor.shape.n).map {
            Float(bitPattern: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self))
        }
    }

    /// Reads every tensor: compares its checksum, and looks for NaN and infinity.
    /// - Throws: ``FormatError`` that names the first damaged tensor.
    public func verify(progress: (Double) -> Void = { _ in }) throws {
        if let name = firstDamaged(progress: progress) {
            throw FormatError("\(path): \(name) is damaged (its checksum is wrong); import the model again")
        }
        try demandFinite()
    }

    private func firstDamaged(progress: (Double) -> Void = { _ in }) -> String? {
        var done = 0
        for name in names {
            guard let tensor = tensors[name] else { continue }
            guard Checksum.of(data(tensor)) == tensor.checksum else { return name }
            done += tensor.byteCount
            progress(Double(done) / Double(byteCount))
        }
        return nil
    }

    /// - Throws: ``FormatError`` that names the first tensor with NaN or infinity, and says how many there are.
    func demandFinite() throws {
        for name in names {
            guard let tensor = tensors[name] else { continue }
            let (count, what) = NonFinite.count(data(tensor), tensor.shape)
            guard count == 0 else {
                throw FormatError(
                    "\(path): \(name) holds NaN or infinity (\(count) \(what)\(count == 1 ? "" : "s")); the file that it comes from is damaged"
                )
            }
        }
    }
}

/// One check of a file at a time, for all who wait for it.
private final class Rechecks: Sendable {
    private let waiting = Mutex<[@Sendable (MappedFile.Look) -> Void]>([])

    func run(
        _ check: @escaping @Sendable () -> MappedFile.Look, then done: @escaping @Sendable (MappedFile.Look) -> Void
    ) {
        let isFirst = waiting.withLock { waiting in
            waiting.append(done)
            return waiting.count == 1
        }
        guard isFirst else { return }
        DispatchQueue(label: "ebb.recheck", qos: .utility).async { [self] in
            let look = check()
            let all = waiting.withLock { waiting in
                defer { waiting = [] }
                return waiting
            }
            for done in all { done(look) }
        }
    }
}
