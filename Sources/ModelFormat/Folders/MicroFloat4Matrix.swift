import CKernels
import Quantization

/// Matrices of floats of 4 bits (E2M1), 32 of them under a power of two (MXFP4: Open Compute Project, "Microscaling Formats"
/// 1.0), as gpt-oss has its experts: `NAME_blocks` [experts, rows, k / 32, 16], two in a byte with the first one low, and
/// `NAME_scales` [experts, rows, k / 32]. Twice a value is a whole number from -12 to 12, so integers of 5 bits hold them.
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
        let fitsHalf = scales.file.data(other).allSatisfy { Self.halfExponents.contains(Int($0)) }
        encoding = .quantized(try Scheme(bits: 5, block: 32, asymmetric: false, scale: fitsHalf ? .f16 : .f32))
    }

    /// Twice the value of a code without its sign: 0, 1/2, 1, 3/2, 2, 3, 4, 6.
    private static let doubled: [Int8] = [0, 1, 2, 3, 4, 6, 8, 12]

    /// Exponents whose scale, 2^(e - 128), is one of f16's.
    private static let halfExponents = 128 - 24...128 + 15

    /// Calls `body` with each input channel and twice its value before the scale.
    private func forEach(row: Int, _ body: (Int, Int8) -> Void) {
        let bytes = blocks.file.data(blocks.tensor)
        let (count, start) = (k / 2, row * (k / 2))
        for i in 0..<count {
            let byte = bytes[start + i]
            for (place, code) in [(0, byte & 15), (1, byte >> 4)] {
                let value = Self.doubled[Int(code & 7)]
                body(i * 2 + place, code & 8 == 0 ? value : -value)
            }
        }
    }

    /// What a block's doubled values are multiplied with. 255 stands for NaN.
    private func scale(_ row: Int, _ block: Int) -> Float {
        let exponent = scales.file.data(scales.tensor)[row * (k / 32) + block]
        return exponent == 255 ? .nan : Float(sign: .plus, exponent: Int(exponent) - 128, significand: 1)
    }

    func read(row: Int, into out: UnsafeMutablePointer<Float>) {
        forEach(row: row) { i, value in out[i] = Float(value) }
        for block in 0..<k / 32 {
            let scale = scale(row, block)
            for i in block * 32..<block * 32 + 32 { out[i] *= scale }
        }
    }

    func code(row: Int, into code: ChannelCode) {
        forEach(row: row) { i, value in code.quants[i] = UInt8(16 + value) }
        for block in 0..<k / 32 {
            let scale = scale(row, block)
            code.scales[block] =
                code.scheme.scale == .f32 ? scale.bitPattern : UInt32(ebb_f32_to_f16(scale))
        }
    }
}
