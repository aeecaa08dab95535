import CKernels
import Quantization

/// The IQ types of one to three bits: an index names a point of a grid, which is 4 or 8 values' magnitudes (IQ1: values). All
/// values of a type stand in a table of at most 16, so that a few more bits keep them exactly: IQ1 and IQ2 become 3 bits, IQ3
/// becomes 4. Their scales are odd numbers times d; what they are divided by is the table's unit.
extension GGMLBlocks {
    /// The signs of 8 values: of 7 bits, an eighth that makes their number even.
    private static func evenSigns(_ bits: UInt32) -> UInt8 {
        let signs = UInt8(truncatingIfNeeded: bits & 127)
        return signs | UInt8(signs.nonzeroBitCount & 1) << 7
    }

    /// Magnitudes of a point with their signs, the lowest bit the first value's, as indices of a table of `2 * magnitudes`
    /// values in ascending order.
    private static func write(
        _ grid: Grid, _ point: Int, signs: UInt8, magnitudes: UInt8, to first: Int, _ code: ChannelCode
    ) {
        for i in 0..<grid.length {
            let digit = grid.digits[point * grid.length + i]
            code.quants[first + i] = (signs >> UInt8(i)) & 1 == 1 ? magnitudes - 1 - digit : magnitudes + digit
        }
    }

    private static func nibble(_ block: UnsafeRawBufferPointer, _ at: Int, _ index: Int) -> UInt8 {
        (block[at + index / 2] >> UInt8(4 * (index % 2))) & 15
    }

    /// IQ2_XXS {d, 8 x {4 indices, 4 x 7 bits of signs and 4 of a scale}}.
    static func readIQ2XXS(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 0)
        for j in 0..<8 {
            let rest = word(block, 6 + j * 8)
            code.subScales[b * 8 + j] = 2 * UInt8(rest >> 28) + 1
            for l in 0..<4 {
                write(
                    .iq2xxs, Int(block[2 + j * 8 + l]), signs: evenSigns(rest >> UInt32(7 * l)), magnitudes: 3,
                    to: b * 256 + j * 32 + l * 8, code)
            }
        }
    }

    /// IQ2_XS {d, 32 x {9 bits of an index, 7 of signs}, 16 scales of 4 bits}.
    static func readIQ2XS(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 0)
        for j in 0..<16 { code.subScales[b * 16 + j] = 2 * nibble(block, 66, j) + 1 }
        for l in 0..<32 {
            let both = half(block, 2 + l * 2)
            write(
                .iq2xs, Int(both & 511), signs: evenSigns(UInt32(both >> 9)), magnitudes: 3, to: b * 256 + l * 8, code)
        }
    }

    /// IQ2_S {d, 32 low bytes of indices, 32 bytes of signs, 32 pairs of the indices' high bits, 16 scales of 4 bits}.
    static func readIQ2S(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 0)
        for j in 0..<16 { code.subScales[b * 16 + j] = 2 * nibble(block, 74, j) + 1 }
        for l in 0..<32 {
            let high = Int(block[66 + l / 4] >> UInt8(2 * (l % 4))) & 3
            write(
                .iq2s, Int(block[2 + l]) | high << 8, signs: block[34 + l], magnitudes: 3, to: b * 256 + l * 8, code)
        }
    }

    /// IQ3_XXS {d, 64 indices of 4 values, 8 x {4 x 7 bits of signs and 4 of a scale}}.
    static func readIQ3XXS(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 0)
        for j in 0..<8 {
            let rest = word(block, 66 + j * 4)
            code.subScales[b * 8 + j] = 2 * UInt8(rest >> 28) + 1
            for l in 0..<8 {
                let signs = evenSigns(rest >> UInt32(7 * (l / 2))) >> UInt8(4 * (l % 2))
                write(
                    .iq3xxs, Int(block[2 + j * 8 + l]), signs: signs, magnitudes: 8, to: b * 256 + j * 32 + l * 4, code)
            }
        }
    }

    /// IQ3_S {d, 64 low bytes of indices, 64 of their high bits, 32 bytes of signs, 8 scales of 4 bits}.
    static func readIQ3S(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 0)
        for j in 0..<8 { code.subScales[b * 8 + j] = 2 * nibble(block, 106, j) + 1 }
        for l in 0..<64 {
            let high = Int(block[66 + l / 8] >> UInt8(l % 8)) & 1
            write(
                .iq3s, Int(block[2 + l]) | high << 8, signs: block[74 + l / 2] >> UInt8(4 * (l % 2)), magnitudes: 8,
                to: b * 256 + l * 4, code)
        }
    }

    /// A point of IQ1's grid, whose values -1, 0 and 1 are all moved by an eighth up or down.
    private static func writeIQ1(_ point: Int, down: Bool, to first: Int, _ code: ChannelCode) {
        for i in 0..<8 { code.quants[first + i] = 2 * Grid.iq1.digits[point * 8 + i] + (down ? 0 : 1) }
    }

    /// IQ1_S {d, 32 low bytes of indices, 8 x {4 x 3 high bits, 3 of a scale, 1 that says down}}.
    static func readIQ1S(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        code.superScales[b] = half(block, 0)
        for j in 0..<8 {
            let rest = half(block, 34 + j * 2)
            code.subScales[b * 8 + j] = 2 * UInt8((rest >> 12) & 7) + 1
            for l in 0..<4 {
                let point = Int(block[2 + j * 4 + l]) | Int((rest >> UInt16(3 * l)) & 7) << 8
                writeIQ1(point, down: rest & 0x8000 != 0, to: b * 256 + j * 32 + l * 8, code)
            }
        }
    }

    /// IQ1_M {32 low bytes of indices, 32 x {3 high bits, 1 that says down}, 4 x {4 scales of 3 bits, 4 bits of d}}.
    static func readIQ1M(_ block: UnsafeRawBufferPointer, _ b: Int, _ code: ChannelCode) {
        let scales = (0..<4).map { half(block, 48 + $0 * 2) }
        code.superScales[b] =
            scales[0] >> 12 | (scales[1] >> 12) << 4 | (scales[2] >> 12) << 8 | (scales[3] >> 12) << 12
        for j in 0..<16 {
            code.subScales[b * 16 + j] = 2 * UInt8((scales[j / 4] >> UInt16(3 * (j % 4))) & 7) + 1
        }
        for l in 0..<32 {
            let high = nibble(block, 32, l)
            writeIQ1(Int(block[l]) | Int(high & 7) << 8, down: high & 8 != 0, to: b * 256 + l * 8, code)
        }
    }
}
