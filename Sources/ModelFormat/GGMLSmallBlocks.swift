import CKernels
import Quantization

/// Blocks of one and two bits: ternary weights, and those of -1 and 1. All become 2 bits, symmetric: q - 2 is -2...1.
extension GGMLBlocks {
    /// TQ1_0 {48 bytes of five values each, 4 bytes of four, d}: a byte is a fraction of 256 whose digits of base 3 are the
    /// values + 1, the first digit after the point first. Values of a digit lie side by side, byte after byte.
    static func readTQ1(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.scales[b] = UInt32(half(block, 52))
        var at = b * 256
        for (first, count, digits) in [(0, 32, 5), (32, 16, 5), (48, 4, 4)] {
            var power: UInt8 = 1
            for _ in 0..<digits {
                for i in 0..<count {
                    let digit = (UInt16(block[first + i] &* power) * 3) >> 8
                    code.quants[at + i] = UInt8(digit) + 1
                }
                at += count
                power *= 3
            }
        }
    }

    /// TQ2_0 {64 bytes, d} and Q2_0 {d, 16 bytes}: pairs of bits that stand for -1...2, which is (q - 2) times -d for
    /// q = 3 - pair. TQ2_0 has 32 bytes' lowest pairs first, then their next ones; Q2_0 has the pairs of a byte side by side.
    static func readPairs(_ block: UnsafeRawBufferPointer, _ type: GGMLType, _ b: Int, _ code: ChannelCode) {
        let spread = type == .tq2_0
        code.scales[b] = UInt32(half(block, spread ? 64 : 0) ^ 0x8000)
        for i in 0..<type.blockLength {
            let byte = spread ? block[i / 128 * 32 + i % 32] : block[2 + i / 4]
            let pair = spread ? i / 32 % 4 : i % 4
            code.quants[b * type.blockLength + i] = 3 - (byte >> UInt8(2 * pair)) & 3
        }
    }

    /// Q1_0 {d, 16 bytes}: a bit says 1 or -1.
    static func readQ1(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.scales[b] = UInt32(half(block, 0))
        for i in 0..<128 { code.quants[b * 128 + i] = 1 + 2 * ((block[2 + i / 8] >> UInt8(i % 8)) & 1) }
    }
}
