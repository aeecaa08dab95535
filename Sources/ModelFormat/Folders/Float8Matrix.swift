import Quantization

/// A weight of bytes of FP8 (E4M3 without infinities: Micikevicius et al. 2022, "FP8 Formats for Deep Learning"), each
/// multiplied with the scale of its matrix, its channel or its block. A value is what a product of f32 rounds to.
struct Float8Matrix: FolderMatrix {
    let name: String
    let shape: [Int]
    let encoding: Encoding
    private let file: SafetensorsFile
    private let tensor: SafetensorsFile.Tensor
    /// [rows / blockRows, k / blockColumns], row by row.
    private let scales: [Float]
    private let scaleColumns, blockRows, blockColumns: Int

    /// - Throws: ``FormatError`` where the scales are missing, or not as many as the weight's shape takes.
    init(_ module: String, blockRows: Int, blockColumns: Int, _ tensors: CheckpointTensors) throws {
        name = try tensors.use(module + ".weight")
        (file, tensor) = try tensors.weights.stored(name)
        shape = tensor.shape
        guard shape.count == 2 else { throw FormatError("\(file.file.path): \(name) has the shape \(shape)") }
        let names = ["weight_scale_inv", "weight_scale"].map { "\(module).\($0)" }
        let grid = try tensors.floats(names.first(where: tensors.has) ?? names[1])
        var values = [Float](repeating: 0, count: grid.rows * grid.k)
        values.withUnsafeMutableBufferPointer { out in
            guard let base = out.baseAddress else { return }
            for row in 0..<grid.rows { grid.read(row: row, into: base + row * grid.k) }
        }
        scales = values
        let (rows, columns) = (shape[0], shape[1])
        let blocks = [(rows + blockRows - 1) / blockRows, (columns + blockColumns - 1) / blockColumns]
        if grid.rows * grid.k == 1 {
            (self.blockRows, self.blockColumns, scaleColumns) = (rows, columns, 1)
        } else if grid.rows == rows, grid.k == 1 {
            (self.blockRows, self.blockColumns, scaleColumns) = (1, columns, 1)
        } else if grid.shape == blocks {
            (self.blockRows, self.blockColumns, scaleColumns) = (blockRows, blockColumns, blocks[1])
        } else {
            throw FormatError(
                "\(file.file.path): \(grid.name) has the shape \(grid.shape), but \(name) \(shape): scales are 1, \(rows) or "
                    + "\(blocks)")
        }
        encoding = Self.encoding(scales)
    }

    func read(row: Int, into out: UnsafeMutablePointer<Float>) {
        let bytes = file.data(tensor)
        let first = row / blockRows * scaleColumns
        for i in 0..<k {
            out[i] = Self.values[Int(bytes[row * k + i])] * scales[first + i / blockColumns]
        }
    }

    private static let values = (0..<256).map { value(UInt8($0)) }

    /// Sign, 4 bits of exponent (bias 7), 3 of significand.
    private static func value(_ byte: UInt8) -> Float {
        let (exponent, significand) = (Int(byte >> 3 & 15), Float(byte & 7))
        let sign: Float = byte & 0x80 == 0 ? 1 : -1
        if byte & 0x7f == 0x7f { return .nan }
        let scale = Float(sign: .plus, exponent: max(exponent, 1) - 7, significand: 1)
        return sign * scale * ((exponent == 0 ? 0 : 1) + significand / 8)
    }

    /// The smallest floats that hold every product with these scales: significands of 4 bits come together with theirs.
    private static func encoding(_ scales: [Float]) -> Encoding {
        func bits(_ scale: Float) -> Int {
            let zeros = scale.significandBitPattern.trailingZeroBitCount
            return scale.isNormal ? 24 - min(zeros, 23) : scale == 0 ? 0 : 24
        }
        let used = scales.map { (bits: bits($0), size: $0.magnitude) }
        func allHold(_ most: Int, _ sizes: ClosedRange<Float>) -> Bool {
            used.allSatisfy { $0.bits == 0 || $0.bits <= most && sizes.contains($0.size) }
        }
        if allHold(4, 0x1p-100...0x1p100) { return .bf16 }
        // The smallest product is 2^-9 of the scale's last bit, and the largest 448 scales.
        return allHold(7, 0x1p-9...0x1p7) ? .f16 : .f32
    }
}
