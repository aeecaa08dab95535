import CKernels
import Quantization

/// Reads ggml's blocks into channels of the scheme that keeps their values exactly.
/// The block layouts are those of ggml-common.h and ggml-quants.c (https://github.com/ggml-org/ggml).
enum GGMLBlocks {
    /// The encoding that holds a ggml type without changing a value.
    static func encoding(for type: GGMLType) throws -> Encoding {
        switch type {
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        case .q4_0: .quantized(try Scheme(bits: 4, block: 32, asymmetric: false))
        case .q4_1: .quantized(try Scheme(bits: 4, block: 32, asymmetric: true))
        case .q5_0: .quantized(try Scheme(bits: 5, block: 32, asymmetric: false))
        case .q5_1: .quantized(try Scheme(bits: 5, block: 32, asymmetric: true))
        case .q8_0: .quantized(try Scheme(bits: 8, block: 32, asymmetric: false))
        case .q2_K: .quantized(try Scheme(bits: 2, block: 16, asymmetric: true, scale: .twoLevelPacked))
        case .q3_K: .quantized(try Scheme(bits: 3, block: 16, asymmetric: false, scale: .twoLevel))
        case .q4_K: .quantized(try Scheme(bits: 4, block: 32, asymmetric: true, scale: .twoLevel))
        case .q5_K: .quantized(try Scheme(bits: 5, block: 32, asymmetric: true, scale: .twoLevel))
        case .q6_K: .quantized(try Scheme(bits: 6, block: 16, asymmetric: false, scale: .twoLevel))
        case .f64: .f32  // rounded
        case .tq1_0, .tq2_0: .quantized(try Scheme(bits: 2, block: 256, asymmetric: false))
        case .q1_0: .quantized(try Scheme(bits: 2, block: 128, asymmetric: false))
        case .q2_0: .quantized(try Scheme(bits: 2, block: 64, asymmetric: false))
        case .iq4_nl: .quantized(try Scheme(bits: 4, block: 32, asymmetric: false, values: .iq4nl))
        case .iq4_xs: .quantized(try looked(up: .iq4nl, 4, block: 32))
        case .mxfp4: .quantized(try Scheme(bits: 4, block: 32, asymmetric: false, scale: .e8m0, values: .e2m1))
        case .nvfp4: .quantized(try Scheme(bits: 4, block: 16, asymmetric: false, values: .e2m1))
        case .iq1_s: .quantized(try looked(up: .iq1, 3, block: 32))
        case .iq1_m: .quantized(try looked(up: .iq1, 3, block: 16))
        case .iq2_xxs: .quantized(try looked(up: .iq2, 3, block: 32))
        case .iq2_xs, .iq2_s: .quantized(try looked(up: .iq2, 3, block: 16))
        case .iq3_xxs: .quantized(try looked(up: .iq3xxs, 4, block: 32))
        case .iq3_s: .quantized(try looked(up: .iq3s, 4, block: 32))
        }
    }

    private static func looked(up values: ValueTable, _ bits: Int, block: Int) throws -> Scheme {
        try Scheme(bits: bits, block: block, asymmetric: false, scale: .twoLevel, values: values)
    }

    /// Reads one row (a channel) of quantized blocks; `row` holds exactly `code.k` values.
    static func read(_ row: UnsafeRawBufferPointer, type: GGMLType, into code: ChannelCode) {
        for b in 0..<row.count / type.blockBytes {
            let block = UnsafeRawBufferPointer(rebasing: row[b * type.blockBytes..<(b + 1) * type.blockBytes])
            switch type {
            case .f32, .f16, .bf16, .f64: break  // float rows are not blocks
            case .q4_0, .q4_1, .q5_0, .q5_1: readNibbles(block, type, b, code)
            case .q8_0: readQ8(block, b, code)
            case .q4_K, .q5_K: readQ45K(block, type, b, code)
            case .q6_K: readQ6K(block, b, code)
            case .q2_K: readQ2K(block, b, code)
            case .q3_K: readQ3K(block, b, code)
            case .tq1_0: readTQ1(block, b, code)
            case .tq2_0, .q2_0: readPairs(block, type, b, code)
            case .q1_0: readQ1(block, b, code)
            case .iq4_nl, .mxfp4: readTable(block, type, b, code)
            case .iq4_xs: readIQ4XS(block, b, code)
            case .nvfp4: readNVFP4(block, b, code)
            case .iq1_s: readIQ1S(block, b, code)
            case .iq1_m: readIQ1M(block, b, code)
            case .iq2_xxs: readIQ2XXS(block, b, code)
            case .iq2_xs: readIQ2XS(block, b, code)
            case .iq2_s: readIQ2S(block, b, code)
            case .iq3_xxs: readIQ3XXS(block, b, code)
            case .iq3_s: readIQ3S(block, b, code)
            }
        }
    }

    static func half(_ block: UnsafeRawBufferPointer, _ at: Int) -> UInt16 {
        UInt16(littleEndian: block.loadUnaligned(fromByteOffset: at, as: UInt16.self))
    }

    static func word(_ block: UnsafeRawBufferPointer, _ at: Int) -> UInt32 {
        UInt32(littleEndian: block.loadUnaligned(fromByteOffset: at, as: UInt32.self))
    }

    /// Q4_0 {d, 16 bytes}, Q4_1 {d, m, 16 bytes}, Q5_0 {d, 32 high bits, 16 bytes}, Q5_1 {d, m, 32 high bits, 16 bytes}.
    private static func readNibbles(_ block: UnsafeRawBufferPointer, _ type: GGMLType, _ b: Int, _ code: ChannelCode) {
        var at = 2
        code.scales[b] = UInt32(half(block, 0))
        if type == .q4_1 || type == .q5_1 {
            code.offsets[b] = UInt32(half(block, 2))
            at = 4
        }
        var high: UInt32 = 0
        if type == .q5_0 || type == .q5_1 {
            high = UInt32(littleEndian: block.loadUnaligned(fromByteOffset: at, as: UInt32.self))
            at += 4
        }
        for i in 0..<16 {
            let byte = block[at + i]
            code.quants[b * 32 + i] = byte & 15 | UInt8((high >> UInt32(i)) & 1) << 4
            code.quants[b * 32 + 16 + i] = byte >> 4 | UInt8((high >> UInt32(i + 16)) & 1) << 4
        }
    }

    /// Q8_0 {d, 32 signed bytes}.
    private static func readQ8(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.scales[b] = UInt32(half(block, 0))
        for i in 0..<32 { code.quants[b * 32 + i] = block[2 + i] &+ 128 }
    }

    /// Q4_K {d, dmin, 12 bytes of 6-bit scales and mins, 128 nibble bytes}; Q5_K has 32 bytes of high bits before them.
    private static func readQ45K(_ block: UnsafeRawBufferPointer, _ type: GGMLType, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 0)
        code.superMins[b] = half(block, 2)
        for j in 0..<8 {
            let (scale, min) =
                j < 4
                ? (block[4 + j] & 63, block[8 + j] & 63)
                : (
                    block[8 + j] & 15 | (block[j] >> 6) << 4,
                    block[8 + j] >> 4 | (block[4 + j] >> 6) << 4
                )
            code.subScales[b * 8 + j] = scale
            code.subMins[b * 8 + j] = min
        }
        let five = type == .q5_K
        let nibbles = five ? 48 : 16
        for j in 0..<4 {
            for l in 0..<32 {
                let byte = block[nibbles + j * 32 + l]
                let high = five ? block[16 + l] >> UInt8(2 * j) : 0
                code.quants[b * 256 + j * 64 + l] = byte & 15 | (high & 1) << 4
                code.quants[b * 256 + j * 64 + 32 + l] = byte >> 4 | ((high >> 1) & 1) << 4
            }
        }
    }

    /// Q6_K {128 low-nibble bytes, 64 bytes of high bit pairs, 16 signed scales, d}.
    private static func readQ6K(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 208)
        for j in 0..<16 { code.subScales[b * 16 + j] = block[192 + j] }
        for n in 0..<2 {
            for l in 0..<32 {
                let low = block[n * 64 + l]
                let low2 = block[n * 64 + 32 + l]
                let high = block[128 + n * 32 + l]
                let at = b * 256 + n * 128 + l
                code.quants[at] = low & 15 | (high & 3) << 4
                code.quants[at + 32] = low2 & 15 | ((high >> 2) & 3) << 4
                code.quants[at + 64] = low >> 4 | ((high >> 4) & 3) << 4
                code.quants[at + 96] = low2 >> 4 | (high >> 6) << 4
            }
        }
    }

    /// Q2_K {16 bytes scale | min << 4, 64 bytes of bit pairs, d, dmin}.
    private static func readQ2K(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 80)
        code.superMins[b] = half(block, 82)
        for j in 0..<16 { code.subScales[b * 16 + j] = block[j] }
        for n in 0..<2 {
            for j in 0..<4 {
                for l in 0..<32 {
                    code.quants[b * 256 + n * 128 + j * 32 + l] = (block[16 + n * 32 + l] >> UInt8(2 * j)) & 3
                }
            }
        }
    }

    /// Q3_K {32 bytes of high bits, 64 bytes of bit pairs, 12 bytes of 6-bit scales, d}.
    private static func readQ3K(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 108)
        for j in 0..<16 {
            let low = j < 8 ? block[96 + j] & 15 : block[96 + j - 8] >> 4
            let high = (block[104 + j % 4] >> UInt8(2 * (j / 4))) & 3
            code.subScales[b * 16 + j] = (low | high << 4) &- 32
        }
        for n in 0..<2 {
            for j in 0..<4 {
                for l in 0..<32 {
                    let low = (block[32 + n * 32 + l] >> UInt8(2 * j)) & 3
                    let high = (block[l] >> UInt8(4 * n + j)) & 1
                    code.quants[b * 256 + n * 128 + j * 32 + l] = low | high << 2
                }
            }
        }
    }
}
