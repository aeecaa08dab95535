/// A tensor of a GGUF file. A matrix has `k` input channels (contiguous) and `n` output channels.
public struct GGUFTensor: Sendable {
    public let name: String
    public let type: GGMLType
    /// ggml's order: the fastest dimension first.
    public let dimensions: [Int]
    /// Offset of the data in its file, and its length.
    let offset: Int
    let byteCount: Int
    /// Which of the model's files it lies in.
    var part = 0

    public var k: Int { dimensions.first ?? 1 }
    public var n: Int { dimensions.dropFirst().reduce(1, *) }
}

/// A GGUF file, version 2 or 3, little-endian: mapped, and checked in full before anything is used. A model that comes in
/// several is one, whichever of them is named (``GGUFParts``).
public struct GGUFFile: Sendable {
    public let metadata: Metadata
    public let tensors: [GGUFTensor]
    /// The file that was named.
    public let path: String
    private let files: [MappedFile]

    /// - Throws: ``FormatError``.
    public init(path: String) throws {
        let named = try Part(path: path)
        let parts = try GGUFParts(named)?.parts ?? [named]
        self.path = path
        metadata = parts[0].metadata
        tensors = parts.enumerated().flatMap { number, part in
            part.tensors.map { tensor in
                var tensor = tensor
                tensor.part = number
                return tensor
            }
        }
        files = parts.map(\.file)
    }

    /// The files' size together.
    public var byteCount: Int { files.reduce(0) { $0 + $1.bytes.count } }

    /// The bytes of a tensor's data.
    public func data(_ tensor: GGUFTensor) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: files[tensor.part].bytes[tensor.offset..<tensor.offset + tensor.byteCount])
    }
}

extension GGUFFile {
    /// One file, by itself.
    struct Part {
        let metadata: Metadata
        let tensors: [GGUFTensor]
        let file: MappedFile
    }
}

extension GGUFFile.Part {
    /// - Throws: ``FormatError``.
    init(path: String) throws {
        file = try MappedFile(path: path)
        var cursor = ByteCursor(file.bytes, what: path)
        guard try cursor.read(UInt32.self) == 0x4655_4747 else { throw FormatError("\(path) is not a GGUF file") }
        let version = try cursor.read(UInt32.self)
        guard ![2, 3].contains(version.byteSwapped) else {
            throw FormatError(
                "\(path) is a big-endian GGUF: only little-endian ones are read (gguf-convert-endian of Python's gguf "
                    + "package turns it)")
        }
        guard version == 2 || version == 3 else {
            throw FormatError("\(path): GGUF version \(version) is not supported (2 and 3 are)")
        }
        let tensorCount = try cursor.read(UInt64.self)
        let metadataCount = try cursor.read(UInt64.self)
        guard metadataCount <= UInt64(file.bytes.count / 13), tensorCount <= UInt64(file.bytes.count / 24) else {
            throw FormatError("\(path): \(metadataCount) keys and \(tensorCount) tensors do not fit the file")
        }
        metadata = try Metadata(count: metadataCount, from: &cursor, owner: file)
        let alignment = metadata.integer("general.alignment") ?? 32
        guard (1...65536).contains(alignment) else { throw FormatError("\(path): general.alignment is \(alignment)") }
        tensors = try Self.tensors(tensorCount, &cursor, alignment: alignment)
        try Overlap.demandNone(tensors.map { ($0.name, $0.offset..<$0.offset + $0.byteCount) }, path: path)
    }

    private static func tensors(_ count: UInt64, _ cursor: inout ByteCursor, alignment: Int) throws -> [GGUFTensor] {
        var found: [(name: String, type: GGMLType, dimensions: [Int], offset: UInt64, bytes: Int)] = []
        var names: Set<String> = []
        for _ in 0..<count {
            let name = try cursor.readString()
            guard names.insert(name).inserted else {
                throw FormatError("\(cursor.what): two tensors are named \(name)")
            }
            let rank = try cursor.read(UInt32.self)
            guard (1...4).contains(rank) else { throw FormatError("\(cursor.what): \(name) has \(rank) dimensions") }
            var dimensions: [Int] = []
            for _ in 0..<rank {
                let size = try cursor.read(UInt64.self)
                guard size > 0, size <= UInt64(Int32.max) else {
                    throw FormatError("\(cursor.what): \(name) has the impossible dimension \(size)")
                }
                dimensions.append(Int(size))
            }
            let code = try cursor.read(UInt32.self)
            guard let type = GGMLType(rawValue: code) else {
                throw FormatError("\(cursor.what): \(name) has \(GGMLType.refusal(of: code))")
            }
            let bytes = try byteCount(name: name, type: type, dimensions: dimensions, cursor)
            found.append((name, type, dimensions, try cursor.read(UInt64.self), bytes))
        }
        let (rounded, overflow) = cursor.offset.addingReportingOverflow(alignment - 1)
        guard !overflow else { throw FormatError("\(cursor.what): impossible alignment") }
        let dataStart = rounded / alignment * alignment
        let size = cursor.bytes.count
        return try found.map { tensor in
            guard tensor.offset <= UInt64(size), dataStart <= size - Int(tensor.offset),
                tensor.bytes <= size - Int(tensor.offset) - dataStart
            else {
                throw FormatError(
                    "\(cursor.what): \(tensor.name) (\(tensor.bytes) bytes at \(tensor.offset)) lies beyond the end of the "
                        + "file; it is truncated or damaged")
            }
            return GGUFTensor(
                name: tensor.name, type: tensor.type, dimensions: tensor.dimensions,
                offset: dataStart + Int(tensor.offset), byteCount: tensor.bytes)
        }
    }

    private static func byteCount(
        name: String, type: GGMLType, dimensions: [Int], _ cursor: ByteCursor
    ) throws -> Int {
        guard dimensions[0] % type.blockLength == 0 else {
            throw FormatError(
                "\(cursor.what): \(name) has rows of \(dimensions[0]) values, not a multiple of \(type.blockLength) "
                    + "as \(type.name) needs")
        }
        var values = 1
        for size in dimensions {
            let (product, overflow) = values.multipliedReportingOverflow(by: size)
            guard !overflow, product <= Int.max / 8 else {
                throw FormatError("\(cursor.what): the shape \(dimensions) of \(name) overflows")
            }
            values = product
        }
        return values / type.blockLength * type.blockBytes
    }
}
