import CKernels
import Quantization

/// A weight of integers in words of 32 bits, with a scale and a zero point for each group of input channels and each
/// output channel: `scale * (q - zero)`. The integers are kept as they are, but where the groups are not in the order of
/// the input channels; the container knows no other.
struct PackedMatrix: FolderMatrix {
    let name: String
    let shape: [Int]
    let encoding: Encoding
    /// Whether `g_idx` puts input channels into groups in an order of their own.
    let isReordered: Bool
    private let format: PackedFormat
    private let words, zeros: Words
    private let scales: Scales
    /// The group of each input channel; empty where they follow each other.
    private let groups: [Int32]

    /// A tensor of words, [rows, columns].
    private struct Words: Sendable {
        let file: SafetensorsFile
        let tensor: SafetensorsFile.Tensor
        var rows: Int { tensor.shape[0] }
        var columns: Int { tensor.shape[1] }

        init(_ tensors: CheckpointTensors, _ name: String) throws {
            let stored = try tensors.use(name)
            (file, tensor) = try tensors.weights.stored(stored)
            guard tensor.type == .i32, tensor.shape.count == 2 else {
                throw FormatError(
                    "\(file.file.path): \(stored) is \(tensor.typeName.prefix(20)) of the shape \(tensor.shape), not a matrix "
                        + "of I32")
            }
        }

        subscript(row: Int, column: Int) -> UInt32 {
            file.data(tensor).loadUnaligned(fromByteOffset: (row * columns + column) * 4, as: UInt32.self)
        }
    }

    /// Scales [groups, n].
    private struct Scales: Sendable {
        let file: SafetensorsFile
        let tensor: SafetensorsFile.Tensor
        var isHalf: Bool { tensor.type == .f16 }

        subscript(group: Int, channel: Int) -> Float {
            var value: Float = 0
            file.read(tensor, from: group * tensor.shape[1] + channel, count: 1, into: &value)
            return value
        }
    }

    // MARK: Shapes

    /// - Throws: ``FormatError`` where a tensor is missing, or the shapes contradict each other.
    init(_ module: String, _ format: PackedFormat, _ tensors: CheckpointTensors) throws {
        self.format = format
        name = module + ".qweight"
        words = try Words(tensors, module + ".qweight")
        zeros = try Words(tensors, module + ".qzeros")
        let scale = try tensors.use(module + ".scales")
        let (file, stored) = try tensors.weights.stored(scale)
        guard stored.type.isFloat, stored.shape.count == 2 else {
            throw FormatError("\(file.file.path): \(scale) is no matrix of floats")
        }
        scales = Scales(file: file, tensor: stored)
        let inWord = format.inWord
        let n: Int, k: Int
        switch format.layout {
        case .gptq: (n, k) = (words.columns, words.rows * inWord)
        case .awq: (n, k) = (words.columns * inWord, words.rows)
        }
        shape = [n, k]
        let count = (k + (format.group ?? k) - 1) / (format.group ?? k)
        guard k <= Int(Int32.max), n <= Int(Int32.max), stored.shape == [count, n],
            zeros.tensor.shape == [count, (n + inWord - 1) / inWord]
        else {
            throw FormatError(
                "\(file.file.path): \(scale) and qzeros have the shapes \(stored.shape) and \(zeros.tensor.shape), which do not "
                    + "fit \(n) channels of \(k) values in groups of \(format.group ?? k)")
        }
        groups = try Self.groups(module, tensors, k: k, group: format.group ?? k, count: count)
        isReordered = !groups.isEmpty
        encoding = isReordered ? .f16 : .quantized(try Self.scheme(format, scales, zeros, count, n))
    }

    /// `g_idx`; empty where it is as it would be without.
    private static func groups(
        _ module: String, _ tensors: CheckpointTensors, k: Int, group: Int, count: Int
    ) throws -> [Int32] {
        guard tensors.has(module + ".g_idx") else { return [] }
        let name = try tensors.use(module + ".g_idx")
        let (file, tensor) = try tensors.weights.stored(name)
        guard tensor.type == .i32, tensor.shape == [k] else {
            throw FormatError("\(file.file.path): \(name) is not \(k) values of I32")
        }
        let bytes = file.data(tensor)
        let groups = (0..<k).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self) }
        guard groups.allSatisfy({ (0..<count).contains(Int($0)) }) else {
            throw FormatError("\(file.file.path): \(name) names groups that do not exist")
        }
        return groups.enumerated().allSatisfy { Int($1) == $0 / group } ? [] : groups
    }

    /// The scheme that holds all scales, and offsets of `-scale * zero`, exactly.
    private static func scheme(
        _ format: PackedFormat, _ scales: Scales, _ zeros: Words, _ count: Int, _ n: Int
    ) throws -> Scheme {
        let middle = 1 << (format.bits - 1)
        var (isSymmetric, isHalf, isOffsetHalf) = (true, true, true)
        for group in 0..<count {
            for channel in 0..<n {
                let (scale, zero) = (scales[group, channel], Self.zero(format, zeros, group, channel))
                let offset = -scale * Float(zero)
                isSymmetric = isSymmetric && zero == middle
                isHalf = isHalf && (scales.isHalf || Float(half: ebb_f32_to_f16(scale)) == scale)
                isOffsetHalf = isOffsetHalf && Float(half: ebb_f32_to_f16(offset)) == offset
            }
        }
        return try Scheme(
            bits: format.bits, block: count == 1 ? -1 : format.group ?? -1, asymmetric: !isSymmetric,
            scale: isHalf && (isSymmetric || isOffsetHalf) ? .f16 : .f32)
    }

    // MARK: Values

    private static func zero(_ format: PackedFormat, _ zeros: Words, _ group: Int, _ channel: Int) -> Int {
        let (word, place) = channel.quotientAndRemainder(dividingBy: format.inWord)
        let mask = UInt32(1) << UInt32(format.bits) - 1
        switch format.layout {
        case .gptq(let bias): return Int(zeros[group, word] >> UInt32(place * format.bits) & mask) + bias
        case .awq: return Int(zeros[group, word] >> UInt32(PackedFormat.awqPlaces[place] * format.bits) & mask)
        }
    }

    /// Calls `body` with each input channel and its integer.
    private func forEach(channel: Int, _ body: (Int, UInt8) -> Void) {
        let bits = UInt32(format.bits)
        let mask = UInt32(1) << bits - 1
        switch format.layout {
        case .gptq:
            for row in 0..<words.rows {
                var word = words[row, channel]
                for place in 0..<format.inWord {
                    body(row * format.inWord + place, UInt8(truncatingIfNeeded: word & mask))
                    word >>= bits
                }
            }
        case .awq:
            let (column, place) = channel.quotientAndRemainder(dividingBy: format.inWord)
            let shift = UInt32(PackedFormat.awqPlaces[place]) * bits
            for row in 0..<words.rows { body(row, UInt8(truncatingIfNeeded: words[row, column] >> shift & mask)) }
        }
    }

    /// The scale and the zero point of each group, for one output channel.
    private func table(_ channel: Int) -> [(scale: Float, zero: Float)] {
        (0..<scales.tensor.shape[0]).map {
            (scales[$0, channel], Float(Self.zero(format, zeros, $0, channel)))
        }
    }

    func read(row: Int, into out: UnsafeMutablePointer<Float>) {
        let (table, group) = (table(row), format.group ?? k)
        forEach(channel: row) { i, q in
            let (scale, zero) = table[isReordered ? Int(groups[i]) : i / group]
            let value = scale * (Float(q) - zero)
            out[i] = isReordered ? Float(half: ebb_f32_to_f16(value)) : value
        }
    }

    func code(row: Int, into code: ChannelCode) {
        let scheme = code.scheme
        forEach(channel: row) { i, q in code.quants[i] = q }
        for (block, entry) in table(row).enumerated() {
            code.scales[block] = Self.stored(entry.scale, scheme)
            if scheme.asymmetric { code.offsets[block] = Self.stored(-entry.scale * entry.zero, scheme) }
        }
    }

    private static func stored(_ value: Float, _ scheme: Scheme) -> UInt32 {
        scheme.scale == .f32 ? value.bitPattern : UInt32(ebb_f32_to_f16(value))
    }
}
