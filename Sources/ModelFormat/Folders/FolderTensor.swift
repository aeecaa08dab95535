import Quantization

/// Which row of a stored tensor each channel of the container's is.
enum RowOrder: Sendable {
    /// Rows one after the other.
    case asStored
    /// For each head of `length` rows, those of the two halves in turn: checkpoints whose RoPE pairs a value with the one
    /// half a head away become what llama's family has, pairs of neighbours.
    case interleavedHalves(length: Int)
    /// Of each matrix of `step` times `rows` rows, every `step`th from the row `first` on.
    case every(step: Int, first: Int)
    /// Of each matrix of `of` rows, `rows` from the row `first` on.
    case part(first: Int, rows: Int, of: Int)

    /// How many channels that many rows become.
    func channels(of rows: Int) -> Int {
        switch self {
        case .asStored, .interleavedHalves: rows
        case .every(let step, _): rows / step
        case .part(_, let part, let whole): rows / whole * part
        }
    }

    func callAsFunction(_ channel: Int) -> Int {
        switch self {
        case .asStored: return channel
        case .interleavedHalves(let length):
            let (head, place) = channel.quotientAndRemainder(dividingBy: length)
            return head * length + place % 2 * (length / 2) + place / 2
        case .every(let step, let first): return channel * step + first
        case .part(let first, let rows, let whole):
            let (matrix, place) = channel.quotientAndRemainder(dividingBy: rows)
            return matrix * whole + first + place
        }
    }
}

/// A tensor of the container, made of the rows of a checkpoint's.
struct FolderTensor: Sendable {
    let source: SourceTensor
    /// Tensors of the same shape, one below the other.
    private let parts: [any FolderMatrix]
    private let rowsOfPart: Int
    private let order: RowOrder
    /// Added to each value.
    private let addend: Float

    /// - Parameters:
    ///   - asFloats: values become f32 whatever they are stored as.
    ///   - isTable: rows are looked up, so that the columns' order has to be that of the values.
    /// - Throws: ``FormatError`` where the parts do not fit each other.
    init(
        _ name: String, _ parts: [any FolderMatrix], order: RowOrder = .asStored, adding addend: Float = 0,
        asFloats: Bool = false, isTable: Bool = false
    ) throws {
        guard let first = parts.first else { throw FormatError("\(name) has no parts") }
        if let other = parts.first(where: { $0.shape != first.shape }) {
            throw FormatError("\(other.name) has the shape \(other.shape), but \(first.name) \(first.shape)")
        }
        rowsOfPart = order.channels(of: first.rows)
        let (n, overflow) = rowsOfPart.multipliedReportingOverflow(by: parts.count)
        guard !overflow, n > 0, n <= Int(Int32.max), !first.isVector || parts.count == 1 else {
            throw FormatError("\(first.name) and \(parts.count - 1) more of the shape \(first.shape) are impossible")
        }
        let isOrdered = parts.contains { !$0.inputOrder.isEmpty }
        let isPlain = first.isVector || asFloats || addend != 0 || isTable && isOrdered
        let encoding = isPlain ? .f32 : try Self.common(parts.map(\.encoding))
        source = SourceTensor(
            name: name, isVector: first.isVector, n: n, k: first.k, encoding: encoding)
        (self.parts, self.order, self.addend) = (parts, order, addend)
    }

    /// The vector that says what inputs the columns are for; nil where that is their place.
    func inputOrder() throws -> FolderTensor? {
        guard case .quantized = source.encoding, parts.contains(where: { !$0.inputOrder.isEmpty }) else { return nil }
        let places = parts.flatMap {
            $0.inputOrder.isEmpty ? (0..<source.k).map(Float.init) : $0.inputOrder.map(Float.init)
        }
        return try FolderTensor(source.name + InputOrderTensor.suffix, values: places)
    }

    /// A vector that the configuration says, not a file.
    init(_ name: String, values: [Float]) throws {
        try self.init(name, [ComputedVector(name: name, values: values)])
    }

    /// The encoding that keeps every value of these.
    private static func common(_ encodings: [Encoding]) throws -> Encoding {
        let different = Set(encodings)
        if let only = different.first, different.count == 1 { return only }
        let schemes = different.compactMap { if case .quantized(let scheme) = $0 { scheme } else { nil } }
        guard schemes.count == different.count, let one = schemes.first,
            schemes.allSatisfy({
                $0.bits == one.bits && $0.block == one.block && $0.values == .linear && [.f16, .f32].contains($0.scale)
            })
        else { return .f32 }
        return .quantized(
            try Scheme(
                bits: one.bits, block: one.block, asymmetric: schemes.contains(where: \.asymmetric),
                scale: schemes.contains { $0.scale == .f32 } ? .f32 : .f16))
    }

    /// The whole vector, or a channel of the matrix.
    func read(channel: Int, into out: UnsafeMutablePointer<Float>) {
        if source.isVector {
            for i in 0..<source.n { parts[0].read(row: order(i), into: out + i) }
        } else {
            let (part, row) = channel.quotientAndRemainder(dividingBy: rowsOfPart)
            parts[part].read(row: order(row), into: out)
        }
        guard addend != 0 else { return }
        for i in 0..<(source.isVector ? source.n : source.k) { out[i] += addend }
    }

    func code(channel: Int, into code: ChannelCode) {
        let (part, row) = channel.quotientAndRemainder(dividingBy: rowsOfPart)
        parts[part].code(row: order(row), into: code)
    }
}

/// Values that follow from the configuration.
private struct ComputedVector: FolderMatrix {
    let name: String
    let values: [Float]
    var shape: [Int] { [values.count] }
    var encoding: Encoding { .f32 }

    func read(row: Int, into out: UnsafeMutablePointer<Float>) { out[0] = values[row] }
}
