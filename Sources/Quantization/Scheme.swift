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
}

/// A weight quantization: bits, block size and scales. See docs/ebb-format.md.
///
/// Asymmetric: `w = scale * q + offset`; symmetric: `w = scale * (q - 2^(bits-1))`, `q` unsigned.
public struct Scheme: Sendable, Hashable {
    /// Width of a quantized value, 2...8.
    public let bits: Int
    /// Values along k that share a scale; -1 for one scale a channel.
    public let block: Int
    public let asymmetric: Bool
    public let scale: ScaleKind

    /// - Throws: ``SchemeError`` if the kernels have no such layout.
    public init(bits: Int, block: Int, asymmetric: Bool, scale: ScaleKind = .f16) throws {
        guard (2...8).contains(bits) else { throw SchemeError("weights of \(bits) bits: 2 to 8 are possible") }
        guard [-1, 16, 32, 64, 128, 256].contains(block) else {
            throw SchemeError("block size \(block): 16, 32, 64, 128, 256 or -1 (per channel) are possible")
        }
        if scale == .twoLevel || scale == .twoLevelPacked {
            guard block == 16 || block == 32 else { throw SchemeError("two-level scales need blocks of 16 or 32") }
        }
        if scale == .twoLevelPacked, !asymmetric { throw SchemeError("packed two-level scales are asymmetric") }
        self.bits = bits
        self.block = block
        self.asymmetric = asymmetric
        self.scale = scale
    }

    /// Values of k in one record of a matrix with `k` input channels.
    public func span(k: Int) -> Int {
        switch scale {
        case .twoLevel, .twoLevelPacked: return 256
        case .f16, .f32: return block == -1 ? (k + 31) / 32 * 32 : max(block, 32)
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
        }
    }

    /// Bytes of floats at a record's end: scales, offsets and super-scales, but not the small integers under those.
    public func floatBytes(k: Int) -> Int {
        let sides = asymmetric ? 2 : 1
        let blocks = span(k: k) / blockLength(k: k)
        switch scale {
        case .f16: return blocks * 32 * sides
        case .f32: return blocks * 64 * sides
        case .twoLevel: return 32 * sides
        case .twoLevelPacked: return 64
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
            }
        return "\(bits) bit, \(blocks), \(asymmetric ? "asymmetric" : "symmetric"), \(scales)"
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
