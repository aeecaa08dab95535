import CKernels
import Quantization

/// A GGUF file as a source.
public struct GGUFSource: ModelSource {
    public let file: GGUFFile
    private let byName: [String: GGUFTensor]

    public init(_ file: GGUFFile) {
        self.file = file
        byName = Dictionary(file.tensors.map { ($0.name, $0) }) { first, _ in first }
    }

    public var path: String { file.path }
    public var byteCount: Int { file.byteCount }
    public var format: String { "gguf" }

    public var tensors: [SourceTensor] {
        file.tensors.map { tensor in
            let encoding = (try? GGMLBlocks.encoding(for: tensor.type)) ?? .f32
            let isVector = Self.isVector(tensor)
            return SourceTensor(
                name: tensor.name, isVector: isVector, n: isVector ? tensor.k : tensor.n, k: isVector ? 1 : tensor.k,
                encoding: isVector ? .f32 : encoding)
        }
    }

    /// A matrix of one row is written as a vector; a classifier of one score is such.
    private static func isVector(_ tensor: GGUFTensor) -> Bool {
        tensor.dimensions.count == 1 && tensor.name != "cls.output.weight"
    }

    public func encodedMetadata(except: Set<String>) throws -> MetadataEncoder {
        var encoder = MetadataEncoder()
        try encoder.appendWithTables(
            file.metadata, except: except.union(MetadataEncoder.provenanceKeys).union(GGUFParts.keys))
        return encoder
    }

    public func read(_ tensor: SourceTensor, channel: Int, into out: UnsafeMutablePointer<Float>) throws {
        let (stored, data) = try data(tensor)
        let type = stored.type
        let rowBytes = stored.k / type.blockLength * type.blockBytes
        let row = UnsafeRawBufferPointer(rebasing: data[channel * rowBytes..<(channel + 1) * rowBytes])
        switch try GGMLBlocks.encoding(for: type) {
        case .f32 where type == .f64:
            for i in 0..<stored.k {
                out[i] = Float(Double(bitPattern: row.loadUnaligned(fromByteOffset: i * 8, as: UInt64.self)))
            }
        case .f32:
            for i in 0..<stored.k {
                out[i] = Float(bitPattern: row.loadUnaligned(fromByteOffset: i * 4, as: UInt32.self))
            }
        case .f16:
            for i in 0..<stored.k { out[i] = Float(half: row.loadUnaligned(fromByteOffset: i * 2, as: UInt16.self)) }
        case .bf16:
            for i in 0..<stored.k {
                out[i] = Float(bitPattern: UInt32(row.loadUnaligned(fromByteOffset: i * 2, as: UInt16.self)) << 16)
            }
        case .quantized(let scheme):
            if tensor.isVector {
                throw FormatError("\(path): the vector \(tensor.name) is quantized, which is not supported")
            }
            let code = ChannelCode(scheme: scheme, k: stored.k)
            GGMLBlocks.read(row, type: type, into: code)
            code.dequantize(into: out)
        }
    }

    public func copy(_ tensor: SourceTensor, to writer: EbbWriter, progress: (Int) -> Void) throws {
        guard !tensor.isVector, case .quantized(let scheme) = tensor.encoding else {
            return try copyFloats(tensor, as: tensor.encoding, to: writer, progress: progress)
        }
        let (stored, data) = try data(tensor)
        let rowBytes = stored.k / stored.type.blockLength * stored.type.blockBytes
        try copyCodes(tensor, scheme, to: writer, progress: progress) { channel, code in
            let start = channel * rowBytes
            let row = UnsafeRawBufferPointer(rebasing: data[start..<start + rowBytes])
            GGMLBlocks.read(row, type: stored.type, into: code)
        }
    }

    private func data(_ tensor: SourceTensor) throws -> (GGUFTensor, UnsafeRawBufferPointer) {
        guard let stored = byName[tensor.name] else {
            throw FormatError("\(path): the tensor \(tensor.name) is missing")
        }
        return (stored, file.data(stored))
    }
}
