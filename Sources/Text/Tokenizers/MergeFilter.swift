import ModelFormat

/// Tells of most pairs of tokens that no merge has them, in one look (Bloom 1970): most pairs that a text asks for are
/// such, and the table of merges takes several looks to say so. Made when the first long text is encoded.
final class MergeFilter: Sendable {
    private let bits: [UInt64]
    private let shift: UInt64

    init(_ merges: MergeTable) {
        // Sixteen bits for a merge: one in sixteen of the others is taken for one.
        var log = 10
        while log < 23, 1 << log < merges.count * 16 { log += 1 }
        shift = UInt64(64 - log)
        var bits = [UInt64](repeating: 0, count: 1 << (log - 6))
        for rank in 0..<merges.count {
            let (left, right, _) = merges[rank]
            let bit = Self.hash(UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))) >> shift
            bits[Int(truncatingIfNeeded: bit >> 6)] |= 1 << (bit & 63)
        }
        self.bits = bits
    }

    /// Not that of the pairs that are remembered: those fall together in other ways.
    @inline(__always)
    private static func hash(_ pair: UInt64) -> UInt64 { (pair ^ pair >> 31) &* 0xbf58_476d_1ce4_e5b9 }

    /// False where no merge has this pair.
    @inline(__always)
    func mayMerge(_ pair: UInt64) -> Bool {
        let bit = Self.hash(pair) >> shift
        return bits[Int(truncatingIfNeeded: bit >> 6)] >> (bit & 63) & 1 != 0
    }
}
