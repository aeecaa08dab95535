import CKernels
import Quantization

/// A weight of integers in words of 32 bits, with a scale and a zero point for each group of input channels and each
/// output channel: `scale * (q - zero)`. The integers are kept as they are; where the groups are not in the order of the
/// input channels, those of a group are put side by side.
struct PackedMatrix: FolderMatrix {
    let name: String
    let shape: [Int]
    let encoding: Encoding
    /// Whether `g_idx` puts another number of input channels into a group than it has, so that values are all that is kept.
    let isUneven: Bool
    let inputOrder: [Int32]
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
        let order = Self.order(groups, group: format.group ?? k, count: count)
        isUneven = order == nil
        inputOrder = order ?? []
        encoding = isUneven ? .f16 : .quantized(try Self.scheme(format, scales, zeros, count, n))
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

    /// The input channels by group, in each as they come; nil where the groups are not those of a matrix in this order.
    private static func order(_ groups: [Int32], group: Int, count: Int) -> [Int32]? {
        guard !groups.isEmpty else { return [] }
        var members = [Int](repeating: 0, count: count)
        for group in groups { members[Int(group)] += 1 }
        let isEven = members.enumerated().allSatisfy { $1 == min(group, groups.count - $0 * group) }
        guard isEven, groups.count <= InputOrderTensor.most else { return nil }
        var next = (0..<count).map { $0 * group }
        var order = [Int32](repeating: 0, count: groups.count)
        for (channel, group) in groups.enumerated() {
            order[next[Int(group)]] = Int32(channel)
            next[Int(group)] += 1
        }
        return order
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
            let (scale, zero) = table[groups.isEmpty ? i / group : Int(groups[i])]
            let value = scale * (Float(q) - zero)
            out[i] = isUneven ? Float(half: ebb_f32_to_f16(value)) : value
        }
    }

    func code(row: Int, into code: ChannelCode) {
        let scheme = code.scheme
        if inputOrder.isEmpty {
            forEach(channel: row) { i, q in code.quants[i] = q }
        } else {
            withUnsafeTemporaryAllocation(of: UInt8.self, capacity: k) { stored in
                forEach(channel: row) { i, q in stored[i] = q }
                for (column, input) in inputOrder.enumerated() { code.quants[column] = stored[Int(input)] }
            }
        }
        for (block, entry) in table(row).enumerated() {
            code.scales[block] = Self.stored(entry.scale, scheme)
            if scheme.asymmetric { code.offsets[block] = Self.stored(-entry.scale * entry.zero, scheme) }
        }
    }

    private static func stored(_ value: Float, _ scheme: Scheme) -> UInt32 {
        scheme.scale == .f32 ? value.bitPattern : UInt32(ebb_f32_to_f16(value))
    }
}
