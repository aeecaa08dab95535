import CKernels

/// An `.ebb` file as a source, to be quantized anew.
public struct EbbSource: ModelSource {
    public let file: EbbFile

    public init(_ file: EbbFile) { self.file = file }

    public var path: String { file.path }
    public var byteCount: Int { file.byteCount }
    public var format: String { "ebb" }

    public var tensors: [SourceTensor] {
        file.shapes.map { shape in
            switch shape.layout {
            case .vector: SourceTensor(name: shape.name, isVector: true, n: shape.n, k: 1, encoding: .f32)
            case .matrix(let encoding):
                SourceTensor(name: shape.name, isVector: false, n: shape.n, k: shape.k, encoding: encoding)
            }
        }
    }

    public func encodedMetadata(except: Set<String>) throws -> MetadataEncoder {
        var encoder = MetadataEncoder()
        try encoder.appendWithTables(
            file.metadata,
            except: except.union(MetadataEncoder.provenanceKeys).union(MetadataEncoder.quantizationKeys))
        return encoder
    }

    public func read(_ tensor: SourceTensor, channel: Int, into out: UnsafeMutablePointer<Float>) throws {
        if tensor.isVector {
            guard let values = file.vector(tensor.name) else { throw missing(tensor) }
            return out.update(from: values, count: values.count)
        }
        guard var matrix = file.matrix(tensor.name), channel < tensor.n else { throw missing(tensor) }
        guard let order = file.tensors[tensor.name + InputOrderTensor.suffix] else {
            return ebb_dequantize_channel(&matrix, UInt32(channel), out)
        }
        try withUnsafeTemporaryAllocation(of: Float.self, capacity: tensor.k) { columns in
            guard let base = columns.baseAddress else { return }
            ebb_dequantize_channel(&matrix, UInt32(channel), base)
            try put(columns, of: tensor, channel, order, into: out)
        }
    }

    /// Puts the columns of a channel to the inputs that they are for.
    private func put(
        _ columns: UnsafeMutableBufferPointer<Float>, of tensor: SourceTensor, _ channel: Int, _ order: EbbTensor,
        into out: UnsafeMutablePointer<Float>
    ) throws {
        let (weights, rest) = order.shape.n.quotientAndRemainder(dividingBy: tensor.k)
        guard order.shape.layout == .vector, rest == 0, weights > 0, tensor.n % weights == 0 else {
            throw damaged(order)
        }
        let first = channel / (tensor.n / weights) * tensor.k
        let bytes = file.data(order)
        // Of a damaged order that names an input twice, another is left out.
        out.update(repeating: 0, count: tensor.k)
        for (column, value) in columns.enumerated() {
            let place = bytes.loadUnaligned(fromByteOffset: (first + column) * 4, as: Float.self)
            guard let input = Int(exactly: place), (0..<tensor.k).contains(input) else { throw damaged(order) }
            out[input] = value
        }
    }

    private func damaged(_ order: EbbTensor) -> FormatError {
        FormatError("\(path): \(order.shape.name) is no order of inputs; the file is damaged, import the model again")
    }

    public func copy(_ tensor: SourceTensor, to writer: EbbWriter, progress: (Int) -> Void) throws {
        guard let stored = file.tensors[tensor.name] else { throw missing(tensor) }
        try writer.append(file.data(stored))
        progress(tensor.n)
    }

    private func missing(_ tensor: SourceTensor) -> FormatError {
        FormatError("\(path): the tensor \(tensor.name) is missing")
    }
}
