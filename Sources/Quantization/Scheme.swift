import CKernels

/// How the scales of a quantized matrix are stored.
public enum ScaleKind: UInt8, Sendable, Hashable, CaseIterable {
    /// One f16 scale (and offset) for each block and channel.
    case f16 = 0
    /// One f32 scale (and offset) for each block and channel.
    case f32 = 1
    /// An 8-bit scale (and min) for each block under f16 super-scales for each record, as ggml's Q4_K, Q5_K, Q6_K, Q3_K.
    case twoLevel = 2
    /// A 4-bit scale and a 4-bit min in one byte for each block, under f16 super-scales, as ggml's Q2_K.
    case twoLevelPacked = 3
    /// One byte e for each block and channel, the scale 2^(e - 128), as in the OCP's microscaling formats.
    case e8m0 = 4

    var hasTwoLevels: Bool { self == .twoLevel || self == .twoLevelPacked }
}

/// What quantized values stand for: themselves, or one of the tables of signed bytes in docs/ebb-format.md.
public enum ValueTable: UInt8, Sendable, Hashable, CaseIterable {
    /// `q`, or `q - 2^(bits-1)`.
    case linear = 0
    /// ggml's IQ4_NL and IQ4_XS.
    case iq4nl = 1
    /// Twice the 4-bit floats of MXFP4 and NVFP4.
    case e2m1 = 2
    /// ggml's IQ1_S and IQ1_M, in eighths.
    case iq1 = 3
    /// ggml's IQ2_XXS, IQ2_XS and IQ2_S, in eighths.
    case iq2 = 4
    /// ggml's IQ3_XXS, in quarters.
    case iq3xxs = 5
    /// ggml's IQ3_S.
    case iq3s = 6

    /// The bits of an index; nil where any width is possible.
    public var bits: Int? {
        switch self {
        case .linear: nil
        case .iq4nl, .e2m1, .iq3xxs, .iq3s: 4
        case .iq1, .iq2: 3
        }
    }

    /// Multiplied into two-level scales.
    var unit: Float { ebb_unit_of(ebb_values(UInt32(rawValue))) }

    /// The value of each index, 16 of them.
    var table: [Float] {
        let values = ebb_table_of(ebb_values(UInt32(rawValue)))
        return (0..<16).map { Float(values?[$0] ?? 0) }
    }

    /// An index that stands for 0, or 0 where none does.
    var zero: UInt8 { self == .iq1 || self == .iq2 ? 6 : 0 }

    var summary: String? {
        switch self {
        case .linear: nil
        case .iq4nl: "values of IQ4_NL"
        case .e2m1: "E2M1"
        case .iq1: "values of IQ1"
        case .iq2: "values of IQ2"
        case .iq3xxs: "values of IQ3_XXS"
        case .iq3s: "values of IQ3_S"
        }
    }
}

/// A weight quantization: bits, block size and scales. See docs/ebb-format.md.
///
/// Asymmetric: `w = scale * q + offset`; symmetric: `w = scale * (q - 2^(bits-1))`, `q` unsigned; with a table of values:
/// `w = scale * table[q]`.
public struct Scheme: Sendable, Hashable {
    /// Width of a quantized value, 2...8.
    public let bits: Int
    /// Values along k that share a scale; -1 for one scale a channel.
    public let block: Int
    public let asymmetric: Bool
    public let scale: ScaleKind
    public let values: ValueTable

    /// - Throws: ``SchemeError`` if the kernels have no such layout.
    public init(
        bits: Int, block: Int, asymmetric: Bool, scale: ScaleKind = .f16, values: ValueTable = .linear
    ) throws {
        guard (2...8).contains(bits) else { throw SchemeError("weights of \(bits) bits: 2 to 8 are possible") }
        guard [-1, 16, 32, 64, 128, 256].contains(block) else {
            throw SchemeError("block size \(block): 16, 32, 64, 128, 256 or -1 (per channel) are possible")
        }
        if scale.hasTwoLevels {
            guard block == 16 || block == 32 else { throw SchemeError("two-level scales need blocks of 16 or 32") }
        }
        if scale == .twoLevelPacked, !asymmetric { throw SchemeError("packed two-level scales are asymmetric") }
        if scale == .e8m0, asymmetric { throw SchemeError("scales that are powers of two have no offsets") }
        if let width = values.bits {
            guard bits == width else { throw SchemeError("a table of \(1 << width) values with \(bits) bits") }
            guard !asymmetric else { throw SchemeError("values of a table have no offsets") }
        }
        self.bits = bits
        self.block = block
        self.asymmetric = asymmetric
        self.scale = scale
        self.values = values
    }

    /// Values of k in one record of a matrix with `k` input channels.
    public func span(k: Int) -> Int {
        switch scale {
        case .twoLevel, .twoLevelPacked: return 256
        case .f16, .f32, .e8m0: return block == -1 ? (k + 31) / 32 * 32 : max(block, 32)
        }
    }

    /// The block size in values, with "per channel" resolved for a matrix of `k` input channels.
    public func blockLength(k: Int) -> Int { block == -1 ? span(k: k) : block }

    /// Bytes of one record: planes, scales, offsets.
    public func recordBytes(k: Int) -> Int {
        let span = span(k: k)
        let blocks = span / blockLength(k: k)
        let sides = asymmetric ? 2 : 1
        let planes = span * 2 * bits
        switch scale {
        case .f16: return planes + blocks * 32 * sides
        case .f32: return planes + blocks * 64 * sides
        case .twoLevel: return planes + blocks * 16 * sides + 32 * sides
        case .twoLevelPacked: return planes + blocks * 16 + 64
        case .e8m0: return planes + blocks * 16
        }
    }

    /// Bytes of floats at a record's end: scales (exponents alone, too), offsets and super-scales, but not the small integers
    /// under those.
    public func floatBytes(k: Int) -> Int {
        let sides = asymmetric ? 2 : 1
        let blocks = span(k: k) / blockLength(k: k)
        switch scale {
        case .f16: return blocks * 32 * sides
        case .f32: return blocks * 64 * sides
        case .twoLevel: return 32 * sides
        case .twoLevelPacked: return 64
        case .e8m0: return blocks * 16
        }
    }

    /// For people: `4 bit, block 32, asymmetric, f16 scales`.
    public var summary: String {
        let blocks = block == -1 ? "per channel" : "block \(block)"
        let scales =
            switch scale {
            case .f16: "f16 scales"
            case .f32: "f32 scales"
            case .twoLevel, .twoLevelPacked: "two-level scales"
            case .e8m0: "E8M0 scales"
            }
        return "\(bits) bit, \(blocks), \(values.summary ?? (asymmetric ? "asymmetric" : "symmetric")), \(scales)"
    }
}

public struct SchemeError: Error, CustomStringConvertible, Sendable {
    public let description: String
    init(_ description: String) { self.description = description }
}

/// How a matrix lies in the container: bit planes with scales, or float tiles.
public enum Encoding: Sendable, Hashable {
    case quantized(Scheme)
    case f32, f16, bf16

    /// Bytes of the matrix [n, k], remainders padded; nil where the product overflows.
    public func byteCount(n: Int, k: Int) -> Int? {
        guard n > 0, k > 0, k <= Int(Int32.max), n <= Int(Int32.max) else { return nil }
        let tiles = (n + 15) / 16
        let tileBytes: Int
        switch self {
        case .quantized(let scheme):
            let span = scheme.span(k: k)
            let (bytes, overflow) = ((k + span - 1) / span).multipliedReportingOverflow(by: scheme.recordBytes(k: k))
            if overflow { return nil }
            tileBytes = bytes
        case .f32: tileBytes = k * 64
        case .f16, .bf16: tileBytes = k * 32
        }
        let (bytes, overflow) = tiles.multipliedReportingOverflow(by: tileBytes)
        return overflow ? nil : bytes
    }

    public var summary: String {
        switch self {
        case .quantized(let scheme): scheme.summary
        case .f32: "f32"
        case .f16: "f16"
        case .bf16: "bf16"
        }
    }

    /// The kernels' description of a matrix [n, k] of this encoding that starts at `data`.
    public func matrix(data: UnsafeRawPointer, n: Int, k: Int) -> ebb_matrix {
        var m = ebb_matrix()
        m.data = data.assumingMemoryBound(to: UInt8.self)
        m.n = UInt32(n)
        m.k = UInt32(k)
        switch self {
        case .quantized(let scheme):
            let span = scheme.span(k: k)
            m.encoding = EBB_ENCODING_QUANTIZED.rawValue
            m.bits = UInt32(scheme.bits)
            m.scale_kind = UInt32(scheme.scale.rawValue)
            m.asymmetric = scheme.asymmetric ? 1 : 0
            m.values = UInt32(scheme.values.rawValue)
            m.block = UInt32(scheme.blockLength(k: k))
            m.span = UInt32(span)
            m.records = UInt32((k + span - 1) / span)
            m.record_bytes = UInt32(scheme.recordBytes(k: k))
        case .f32: m.encoding = EBB_ENCODING_F32.rawValue
        case .f16: m.encoding = EBB_ENCODING_F16.rawValue
        case .bf16: m.encoding = EBB_ENCODING_BF16.rawValue
        }
        return m
    }
}
