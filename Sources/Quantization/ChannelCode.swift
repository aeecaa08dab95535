import CKernels

/// One output channel in quantized form, before it is laid into a tile.
///
/// The buffers have room for a padded channel: values and scales beyond k stay as ``clear()`` left them, which is
/// a weight of zero in every scheme (q = 0 with scale and offset 0, or q at the zero point or an index of zero).
public final class ChannelCode {
    public let scheme: Scheme
    public let k: Int
    let paddedK: Int
    let blocks: Int
    let records: Int
    /// Quantized values, unsigned, [paddedK].
    public var quants: [UInt8]
    /// One-level scales and offsets as bit patterns (f16 in the low half, f32, or the exponent's byte), [blocks].
    public var scales: [UInt32]
    public var offsets: [UInt32]
    /// Two-level scales and mins, [blocks]: the scale as a signed byte where the scheme is symmetric; packed schemes
    /// keep scale | min << 4 in `subScales`.
    public var subScales: [UInt8]
    public var subMins: [UInt8]
    /// f16 super-scales and super-mins, [records].
    public var superScales: [UInt16]
    public var superMins: [UInt16]

    public init(scheme: Scheme, k: Int) {
        self.scheme = scheme
        self.k = k
        let span = scheme.span(k: k)
        records = (k + span - 1) / span
        paddedK = records * span
        blocks = paddedK / scheme.blockLength(k: k)
        quants = Array(repeating: 0, count: paddedK)
        scales = Array(repeating: 0, count: blocks)
        offsets = scales
        subScales = Array(repeating: 0, count: blocks)
        subMins = subScales
        superScales = Array(repeating: 0, count: records)
        superMins = superScales
        clear()
    }

    /// Makes every weight zero.
    public func clear() {
        let zero = scheme.values != .linear ? scheme.values.zero : scheme.asymmetric ? 0 : 1 << UInt8(scheme.bits - 1)
        for i in 0..<paddedK { quants[i] = zero }
        for i in 0..<blocks {
            scales[i] = 0
            offsets[i] = 0
            subScales[i] = 0
            subMins[i] = 0
        }
        for i in 0..<records {
            superScales[i] = 0
            superMins[i] = 0
        }
    }

    /// The values that the codes stand for, out[0..<k].
    public func dequantize(into out: UnsafeMutablePointer<Float>) {
        let length = scheme.blockLength(k: k)
        let blocksInRecord = scheme.span(k: k) / length
        let zero: Float = scheme.asymmetric ? 0 : Float(1 << (scheme.bits - 1))
        let table = scheme.values == .linear ? (0..<1 << scheme.bits).map { Float($0) - zero } : scheme.values.table
        quants.withUnsafeBufferPointer { quants in
            for block in 0..<blocks {
                let (scale, offset) = scaleAndOffset(block, record: block / blocksInRecord)
                for i in block * length..<max(block * length, min((block + 1) * length, k)) {
                    out[i] = scale * table[Int(quants[i])] + offset
                }
            }
        }
    }

    private func scaleAndOffset(_ block: Int, record: Int) -> (Float, Float) {
        func half(_ bits: UInt16) -> Float { ebb_f16_to_f32(bits) }
        switch scheme.scale {
        case .f16:
            return (
                half(UInt16(truncatingIfNeeded: scales[block])), half(UInt16(truncatingIfNeeded: offsets[block]))
            )
        case .f32: return (Float(bitPattern: scales[block]), Float(bitPattern: offsets[block]))
        case .e8m0:
            let e = scales[block] & 255
            return (Float(bitPattern: e < 2 ? (e + 1) << 21 : (e - 1) << 23), 0)
        case .twoLevel:
            let super1 = half(superScales[record]) * scheme.values.unit
            guard scheme.asymmetric else { return (super1 * Float(Int8(bitPattern: subScales[block])), 0) }
            return (super1 * Float(subScales[block]), -(half(superMins[record]) * Float(subMins[block])))
        case .twoLevelPacked:
            let both = subScales[block]
            return (half(superScales[record]) * Float(both & 15), -(half(superMins[record]) * Float(both >> 4)))
        }
    }
}
