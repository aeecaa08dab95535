import CKernels
import Quantization

/// Blocks of 4 bits whose values stand in a table: ``ValueTable/iq4nl`` and ``ValueTable/e2m1``.
extension GGMLBlocks {
    /// `count` bytes: the low halves are the first values, the high halves those that follow.
    private static func readHalves(
        _ block: UnsafeRawBufferPointer, _ at: Int, _ count: Int, to first: Int, _ code: ChannelCode
    ) {
        for i in 0..<count {
            code.quants[first + i] = block[at + i] & 15
            code.quants[first + count + i] = block[at + i] >> 4
        }
    }

    /// IQ4_NL {d, 16 bytes} and MXFP4 {e, 16 bytes}.
    static func readTable(_ block: UnsafeRawBufferPointer, _ type: GGMLType, _ b: Int, _ code: ChannelCode) {
        code.scales[b] = type == .mxfp4 ? UInt32(block[0]) : UInt32(half(block, 0))
        readHalves(block, type == .mxfp4 ? 1 : 2, 16, to: b * 32, code)
    }

    /// IQ4_XS {d, 8 pairs of high bits of scales, 4 bytes of their low bits, 128 bytes}: scales of 6 bits, less 32.
    static func readIQ4XS(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 0)
        let high = half(block, 2)
        for j in 0..<8 {
            let low = (block[4 + j / 2] >> UInt8(4 * (j % 2))) & 15
            code.subScales[b * 8 + j] = (low | UInt8((high >> UInt16(2 * j)) & 3) << 4) &- 32
            readHalves(block, 8 + j * 16, 16, to: b * 256 + j * 32, code)
        }
    }

    /// NVFP4 {4 scales, 4 x 8 bytes}, 16 values a scale.
    static func readNVFP4(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        for j in 0..<4 {
            code.scales[b * 4 + j] = UInt32(ebb_f32_to_f16(e4m3(block[j]) / 2))
            readHalves(block, 4 + j * 8, 8, to: b * 64 + j * 16, code)
        }
    }

    /// A float of 4 bits of exponent and 3 of mantissa, without a sign; f16 holds every one, and its half. 0x7f is NaN in the
    /// format and 0 in ggml.
    private static func e4m3(_ bits: UInt8) -> Float {
        let (exponent, mantissa) = (Int(bits >> 3) & 15, Float(bits & 7))
        if bits == 0x7f { return 0 }
        if exponent == 0 { return mantissa * 0x1p-9 }
        return (1 + mantissa / 8) * Float(sign: .plus, exponent: exponent - 7, significand: 1)
    }
}
