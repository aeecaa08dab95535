import Quantization

/// Matrices of floats of 4 bits (E2M1), 32 of them under a power of two (MXFP4: Open Compute Project, "Microscaling Formats"
/// 1.0), as gpt-oss has its experts: `NAME_blocks` [experts, rows, k / 32, 16], two in a byte with the first one low, and
/// `NAME_scales` [experts, rows, k / 32]. Codes and exponents are kept as they are, as those of a GGUF are.
struct MicroFloat4Matrix: FolderMatrix {
    let name: String
    let shape: [Int]
    let encoding: Encoding
    private let blocks, scales: (file: SafetensorsFile, tensor: SafetensorsFile.Tensor)

    /// - Throws: ``FormatError`` where the tensors are missing or do not fit each other.
    init(_ name: String, _ tensors: CheckpointTensors) throws {
        self.name = name
        blocks = try tensors.weights.stored(try tensors.use(name + "_blocks"))
        scales = try tensors.weights.stored(try tensors.use(name + "_scales"))
        let (one, other) = (blocks.tensor, scales.tensor)
        guard one.type == .u8, other.type == .u8, one.shape.count == 4, one.shape[3] == 16,
            other.shape == Array(one.shape.prefix(3)), one.shape[2] <= Int(Int32.max) / 32
        else {
            throw FormatError(
                "\(blocks.file.file.path): \(name)_blocks and _scales are \(one.typeName.prefix(20)) \(one.shape) and "
                    + "\(other.typeName.prefix(20)) \(other.shape), no floats of 4 bits in blocks of 32")
        }
        shape = [one.shape[0], one.shape[1], one.shape[2] * 32]
        encoding = .quantized(try Scheme(bits: 4, block: 32, asymmetric: false, scale: .e8m0, values: .e2m1))
    }

    func read(row: Int, into out: UnsafeMutablePointer<Float>) {
        guard case .quantized(let scheme) = encoding else { return }
        let code = ChannelCode(scheme: scheme, k: k)
        self.code(row: row, into: code)
        code.dequantize(into: out)
    }

    func code(row: Int, into code: ChannelCode) {
        let bytes = blocks.file.data(blocks.tensor)
        let start = row * (k / 2)
        for i in 0..<k / 2 {
            let pair = bytes[start + i]
            code.quants[i * 2] = pair & 15
            code.quants[i * 2 + 1] = pair >> 4
        }
        // Exponents have a bias of 127; the table holds values twice, so that the container's has one of 128.
        let exponents = scales.file.data(scales.tensor)
        for block in 0..<k / 32 { code.scales[block] = UInt32(exponents[row * (k / 32) + block]) }
    }
}
