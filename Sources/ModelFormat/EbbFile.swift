import CKernels
import Quantization

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

    public var path: String { file.path }
    public var byteCount: Int { file.bytes.count }
    public var shapes: [TensorShape] { names.compactMap { tensors[$0]?.shape } }

    /// - Throws: ``FormatError``.
    public init(path: String) throws {
        file = try MappedFile(path: path)
        let header = try Header(file.bytes, path: path)
        var metadataCursor = ByteCursor(header.metadata, what: "\(path): metadata")
        let count = try metadataCursor.read(UInt64.self)
        guard count <= UInt64(header.metadata.count / 13) else { throw FormatError("\(path): impossible metadata") }
        metadata = try Metadata(count: count, from: &metadataCursor, owner: file)
        (names, tensors) = try Self.table(header.table, path: path, fileBytes: file.bytes.count)
    }

    private struct Header {
        let metadata: UnsafeRawBufferPointer
        let table: UnsafeRawBufferPointer

        init(_ bytes: UnsafeRawBufferPointer, path: String) throws {
            var cursor = ByteCursor(bytes, what: path)
            guard try cursor.take(8).elementsEqual(EbbLayout.magic) else {
                throw FormatError("\(path) is not an .ebb model (its first bytes are not EBBMODEL)")
            }
            let version = try cursor.read(UInt32.self)
            guard version == EbbLayout.version else {
                throw FormatError("\(path): container version \(version), this program reads \(EbbLayout.version)")
            }
            _ = try cursor.read(UInt32.self)
            let size = try cursor.read(UInt64.self)
            guard size == UInt64(bytes.count) else {
                throw FormatError("\(path) is truncated or damaged: \(bytes.count) bytes, its header says \(size)")
            }
            let (metadataAt, metadataBytes) = (try cursor.read(UInt64.self), try cursor.read(UInt64.self))
            let tableBytes = try cursor.read(UInt64.self)
            let expected = try cursor.read(UInt64.self)
            guard try cursor.read(UInt64.self) == 0 else { throw FormatError("\(path): the header is damaged") }
            guard metadataAt == UInt64(EbbLayout.headerBytes), metadataBytes <= size, tableBytes <= size,
                metadataAt + metadataBytes + tableBytes <= size
            else { throw FormatError("\(path): the header points outside the file") }
            let end = Int(metadataAt + metadataBytes)
            metadata = UnsafeRawBufferPointer(rebasing: bytes[Int(metadataAt)..<end])
            table = UnsafeRawBufferPointer(rebasing: bytes[end..<end + Int(tableBytes)])
            var sum = Checksum()
            sum.update(UnsafeRawBufferPointer(rebasing: bytes[..<48]))
            sum.update(UnsafeRawBufferPointer(rebasing: bytes[EbbLayout.headerBytes..<end + Int(tableBytes)]))
            guard sum.value == expected else {
                throw FormatError("\(path): the checksum of its header is wrong; the file is damaged, import it again")
            }
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
        _ = try cursor.take(3)
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
            do {
                let scheme = try Scheme(bits: Int(bits), block: Int(block), asymmetric: asymmetric != 0, scale: scale)
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

    /// What has become of the file since it was opened.
    public var change: MappedFile.Change { file.change }

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

    /// Reads every tensor and compares its checksum.
    /// - Throws: ``FormatError`` that names the first damaged tensor.
    public func verify(progress: (Double) -> Void = { _ in }) throws {
        var done = 0
        for name in names {
            guard let tensor = tensors[name] else { continue }
            guard Checksum.of(data(tensor)) == tensor.checksum else {
                throw FormatError("\(path): \(name) is damaged (its checksum is wrong); import the model again")
            }
            done += tensor.byteCount
            progress(Double(done) / Double(byteCount))
        }
    }
}
