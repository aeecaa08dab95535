import CKernels
import Glibc
import Quantization

/// A tensor of a model that can be copied or quantized.
public struct SourceTensor: Sendable {
    public let name: String
    public let isVector: Bool
    /// Output channels, or the vector's length.
    public let n: Int
    /// Input channels; 1 for a vector.
    public let k: Int
    /// The encoding that keeps every value; f32 for vectors.
    public let encoding: Encoding

    public init(name: String, isVector: Bool, n: Int, k: Int, encoding: Encoding) {
        (self.name, self.isVector, self.n, self.k, self.encoding) = (name, isVector, n, k, encoding)
    }

    /// As it lies in a container that changes no value.
    public var shape: TensorShape {
        isVector
            ? TensorShape(name: name, layout: .vector, n: n, k: 1)
            : TensorShape(name: name, layout: .matrix(encoding), n: n, k: k)
    }

    /// Bytes of the values as f32.
    public var floatBytes: Int { n * k * 4 }
}

/// A model in any format that Ebb reads, tensor by tensor: what `import` copies and `quantize` reads.
public protocol ModelSource: Sendable {
    var path: String { get }
    var byteCount: Int { get }
    /// For messages and provenance: `gguf`, `safetensors`, `ebb`.
    var format: String { get }
    var tensors: [SourceTensor] { get }
    /// What users should know of the model before they use it; sentences without a full stop.
    var notices: [String] { get }
    /// The model's own metadata, to which provenance is added.
    /// - Parameter except: keys that are left out.
    func encodedMetadata(except: Set<String>) throws -> MetadataEncoder
    /// Reads channel `channel` of a matrix (k values), or a whole vector (n values, channel 0).
    func read(_ tensor: SourceTensor, channel: Int, into out: UnsafeMutablePointer<Float>) throws
    /// Appends a tensor in its own encoding to a container, without changing a value. `progress` hears channels.
    func copy(_ tensor: SourceTensor, to writer: EbbWriter, progress: (Int) -> Void) throws
}

extension ModelSource {
    public func encodedMetadata() throws -> MetadataEncoder { try encodedMetadata(except: []) }

    public var notices: [String] { [] }

    public var floatBytes: Int { tensors.reduce(0) { $0 + $1.floatBytes } }

    /// Reads a whole vector.
    public func vector(_ tensor: SourceTensor) throws -> [Float] {
        var values = [Float](repeating: 0, count: tensor.n)
        try values.withUnsafeMutableBufferPointer { out in
            if let base = out.baseAddress { try read(tensor, channel: 0, into: base) }
        }
        return values
    }

    /// Copies a vector, or a matrix of floats as tiles of `encoding`.
    func copyFloats(
        _ tensor: SourceTensor, as encoding: Encoding, to writer: EbbWriter, progress: (Int) -> Void
    ) throws {
        if tensor.isVector { return try vector(tensor).withUnsafeBytes { try writer.append($0) } }
        let tiles = try FloatTiles(encoding: encoding, k: tensor.k)
        for first in stride(from: 0, to: tensor.n, by: 16) {
            try tiles.fill(channels: min(16, tensor.n - first)) { lane, row in
                try read(tensor, channel: first + lane, into: row)
            }
            try writer.append(tiles.bytes)
            progress(first)
        }
    }
}

extension ModelSource {
    /// Copies a matrix that is quantized as it is. `code` fills in a channel; what it leaves out is zero.
    func copyCodes(
        _ tensor: SourceTensor, _ scheme: Scheme, to writer: EbbWriter, progress: (Int) -> Void,
        code read: (Int, ChannelCode) -> Void
    ) throws {
        let tiles = TileWriter(scheme: scheme, k: tensor.k)
        let code = ChannelCode(scheme: scheme, k: tensor.k)
        let tile = UnsafeMutableRawBufferPointer.allocate(byteCount: tiles.tileBytes, alignment: 64)
        defer { tile.deallocate() }
        for first in stride(from: 0, to: tensor.n, by: 16) {
            tile.initializeMemory(as: UInt8.self, repeating: 0)
            for lane in 0..<min(16, tensor.n - first) {
                read(first + lane, code)
                tiles.write(code, lane: lane, into: tile)
            }
            try writer.append(UnsafeRawBufferPointer(tile))
            progress(first)
        }
    }
}

/// Builds tiles [k][16] of floats from rows.
public final class FloatTiles {
    private let encoding: Encoding
    private let k: Int
    private let memory: UnsafeMutableRawBufferPointer
    private let row: UnsafeMutablePointer<Float>

    /// - Throws: ``FormatError`` for an encoding that is no float's.
    public init(encoding: Encoding, k: Int) throws {
        guard let bytes = encoding.byteCount(n: 16, k: k) else { throw FormatError("a matrix of \(k) columns") }
        if case .quantized = encoding { throw FormatError("float tiles cannot hold \(encoding.summary)") }
        self.encoding = encoding
        self.k = k
        memory = .allocate(byteCount: bytes, alignment: 64)
        row = .allocate(capacity: k)
    }

    deinit {
        memory.deallocate()
        row.deallocate()
    }

    /// The tile that was filled last.
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(memory) }

    /// Fills a tile from rows; channels that are missing become zero.
    public func fill(channels: Int, read: (Int, UnsafeMutablePointer<Float>) throws -> Void) rethrows {
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        for lane in 0..<channels {
            try read(lane, row)
            switch encoding {
            case .f32:
                let out = memory.assumingMemoryBound(to: Float.self)
                for i in 0..<k { out[i * 16 + lane] = row[i] }
            case .f16:
                let out = memory.assumingMemoryBound(to: UInt16.self)
                for i in 0..<k { out[i * 16 + lane] = ebb_f32_to_f16(row[i]) }
            case .bf16:
                // Only exact values come here: sources that are bf16 themselves.
                let out = memory.assumingMemoryBound(to: UInt16.self)
                for i in 0..<k { out[i * 16 + lane] = UInt16(row[i].bitPattern >> 16) }
            case .quantized: break  // refused by init
            }
        }
    }
}

/// Opens what a path names: a GGUF file, a Hugging Face folder, or an `.ebb` file.
public enum ModelSources {
    /// - Throws: ``FormatError`` that says what is possible.
    public static func open(_ path: String) throws -> any ModelSource {
        var info = stat()
        guard stat(path, &info) == 0 else { throw FormatError.system("cannot open \(path)") }
        if info.st_mode & S_IFMT == S_IFDIR {
            return try HuggingFaceFolder(path: path)
        }
        if path.hasSuffix(".safetensors") {
            throw FormatError("\(path): name the folder that holds it, with its config.json and tokenizer.json")
        }
        if path.hasSuffix(".ebb") { return EbbSource(try EbbFile(path: path)) }
        return GGUFSource(try GGUFFile(path: path))
    }
}

/// Copies a model into the container, in Ebb's layout and without changing a value.
public struct ModelImport {
    private let source: any ModelSource
    private let chatTemplate: String?

    private static let templateKey = "tokenizer.chat_template"

    /// - Parameter chatTemplate: stands in for the model's own; nil leaves that.
    public init(_ source: any ModelSource, chatTemplate: String? = nil) {
        (self.source, self.chatTemplate) = (source, chatTemplate)
    }

    /// What a container may take beyond the source: tables instead of lists, the tokenizer that lay beside the weights.
    private static let allowance = 8 << 20

    /// Writes `destination`. `progress` hears a fraction, 0...1.
    /// - Parameter check: looks at the finished file before it gets its name.
    /// - Throws: ``FormatError``; then no file is left.
    public func write(
        to destination: String, checking check: (EbbFile) throws -> Void = { _ in },
        progress: (Double) -> Void = { _ in }
    ) throws {
        var metadata = try source.encodedMetadata(except: chatTemplate == nil ? [] : [Self.templateKey])
        if let chatTemplate { metadata.set(Self.templateKey, chatTemplate) }
        metadata.setProvenance(source)
        let shapes = source.tensors.map(\.shape)
        try demandProportion(metadata, shapes)
        let writer = try EbbWriter(destination: destination, metadata: metadata, shapes: shapes)
        var done = 0
        let total = source.floatBytes
        for tensor in source.tensors {
            try source.copy(tensor, to: writer) { channels in
                progress(Double(done + channels * tensor.k * 4) / Double(max(total, 1)))
            }
            done += tensor.floatBytes
        }
        try writer.finish(checking: check)
        progress(1)
    }

    /// Matrices are padded to 16 channels: one of few would take many times its size. No real model has large ones. What
    /// their types take more than in the source (those of one to three bits have wider values here) is no padding.
    private func demandProportion(_ metadata: MetadataEncoder, _ shapes: [TensorShape]) throws {
        func padding(_ shape: TensorShape) -> Int {
            guard case .matrix = shape.layout else { return 0 }
            let tiles = (shape.n + 15) / 16
            return (shape.byteCount ?? 0) / (max(tiles, 1) * 16) * (tiles * 16 - shape.n)
        }
        let bytes = EbbWriter.byteCount(metadata: metadata, shapes: shapes)
        let whole = max(source.byteCount, bytes - shapes.reduce(0) { $0 + padding($1) })
        let most = whole + source.byteCount / 20 + shapes.count * EbbLayout.matrixAlignment + Self.allowance
        guard bytes > most else { return }
        let worst = shapes.max { padding($0) < padding($1) }
        throw FormatError(
            "\(source.path) would take \(bytes) bytes as a container instead of \(source.byteCount): \(worst?.name ?? "") is "
                + "[\(worst?.n ?? 0), \(worst?.k ?? 0)], and channels come in sixteens")
    }
}

extension MetadataEncoder {
    static let provenanceKeys: Set<String> = ["ebb.source.format", "ebb.source.file"]

    /// Where the weights come from.
    public mutating func setProvenance(_ source: any ModelSource) {
        set("ebb.source.format", source.format)
        set("ebb.source.file", String(source.path.split(separator: "/").last ?? ""))
    }
}
