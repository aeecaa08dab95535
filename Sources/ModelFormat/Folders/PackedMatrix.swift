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
    private let words: PackedWords
    private let zeros: PackedZeros
    private let scales: PackedScales
    /// The group of each input channel; empty where they follow each other.
    private let groups: [Int32]

    // MARK: Shapes

    /// - Throws: ``FormatError`` where a tensor is missing, or the shapes contradict each other.
    init(_ module: String, _ format: PackedFormat, _ tensors: CheckpointTensors) throws {
        self.format = format
        name = module + format.names.words
        words = try PackedWords(tensors, name)
        zeros = try PackedZeros(module, format, tensors)
        let isCompressed = if case .compressed = format.layout { true } else { false }
        scales = try PackedScales(tensors, module + format.names.scales, isByChannel: isCompressed)
        let (n, k): (Int, Int)
        switch format.layout {
        case .gptq: (n, k) = (words.columns, words.rows * format.inWord)
        case .awq: (n, k) = (words.columns * format.inWord, words.rows)
        case .compressed: (n, k) = try Self.compressedShape(module, words, format, tensors)
        }
        shape = [n, k]
        let group = format.group ?? k
        let count = (k + group - 1) / group
        guard k <= Int(Int32.max), n <= Int(Int32.max), scales.groups == count, scales.channels == n,
            zeros.shape == zeros.expected(n: n, groups: count)
        else {
            throw FormatError(
                "\(words.file.file.path): \(module)\(format.names.scales) and \(format.names.zeros) have the shapes "
                    + "\(scales.tensor.shape) and \(zeros.shape ?? []), which do not fit \(n) channels of \(k) values in groups "
                    + "of \(group)")
        }
        groups = try Self.groups(module + format.names.groups, tensors, k: k, group: group, count: count)
        let order = Self.order(groups, group: group, count: count)
        isUneven = order == nil
        inputOrder = order ?? []
        encoding = isUneven ? .f16 : .quantized(try Self.scheme(format, scales, zeros, count, n))
    }

    /// What `weight_shape` says, two whole numbers: a row's last word may be filled up.
    private static func compressedShape(
        _ module: String, _ words: PackedWords, _ format: PackedFormat, _ tensors: CheckpointTensors
    ) throws -> (n: Int, k: Int) {
        let name = try tensors.use(module + ".weight_shape")
        let (file, tensor) = try tensors.weights.stored(name)
        guard tensor.shape == [2], tensor.type == .i64 || tensor.type == .i32 else {
            throw FormatError("\(file.file.path): \(name) is not 2 values of I64")
        }
        let bytes = file.data(tensor)
        let said = (0..<2).map { index in
            tensor.type == .i64
                ? Int(bytes.loadUnaligned(fromByteOffset: index * 8, as: Int64.self))
                : Int(bytes.loadUnaligned(fromByteOffset: index * 4, as: Int32.self))
        }
        guard said[0] == words.rows, said[1] > 0, said[1] <= Int(Int32.max),
            words.columns == (said[1] + format.inWord - 1) / format.inWord
        else {
            throw FormatError(
                "\(file.file.path): \(name) says \(said), but \(module).weight_packed has the shape \(words.tensor.shape): "
                    + "they do not fit at \(format.bits) bits")
        }
        return (said[0], said[1])
    }

    /// `g_idx`; empty where it is as it would be without.
    private static func groups(
        _ name: String, _ tensors: CheckpointTensors, k: Int, group: Int, count: Int
    ) throws -> [Int32] {
        guard tensors.has(name) else { return [] }
        let name = try tensors.use(name)
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
        _ format: PackedFormat, _ scales: PackedScales, _ zeros: PackedZeros, _ count: Int, _ n: Int
    ) throws -> Scheme {
        let middle = 1 << (format.bits - 1)
        var (isSymmetric, isHalf, isOffsetHalf) = (true, true, true)
        for group in 0..<count {
            for channel in 0..<n {
                let (scale, zero) = (scales[group, channel], zeros[group, channel])
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

    /// Calls `body` with each input channel and its integer.
    private func forEach(channel: Int, _ body: (Int, UInt8) -> Void) {
        let (bits, mask, inWord) = (UInt32(format.bits), format.mask, format.inWord)
        func unpack(_ word: UInt32, from first: Int) {
            var word = word
            for i in first..<min(first + inWord, k) {
                body(i, UInt8(truncatingIfNeeded: word & mask))
                word >>= bits
            }
        }
        switch format.layout {
        case .gptq: for row in 0..<words.rows { unpack(words[row, channel], from: row * inWord) }
        case .compressed:
            for column in 0..<words.columns { unpack(words[channel, column], from: column * inWord) }
        case .awq:
            let (column, place) = channel.quotientAndRemainder(dividingBy: inWord)
            let shift = format.shift(of: place)
            for row in 0..<words.rows { body(row, UInt8(truncatingIfNeeded: words[row, column] >> shift & mask)) }
        }
    }

    /// The scale and the zero point of each group, for one output channel.
    private func table(_ channel: Int) -> [(scale: Float, zero: Float)] {
        (0..<scales.groups).map { (scales[$0, channel], Float(zeros[$0, channel])) }
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
