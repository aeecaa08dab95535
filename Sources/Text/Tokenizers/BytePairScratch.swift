import ModelFormat

/// What byte-pair encoding of one text uses again for each piece: room for the symbols of a short one, and the tokens of
/// short pieces that have come before.
///
/// Used by one task at a time.
final class BytePairScratch {
    /// Symbols of a piece that is merged here; the work for one grows with their square.
    static let symbolLimit = 128
    /// Bytes of a text from which on pieces are remembered.
    static let rememberedText = 1 << 12
    /// Bytes of memory at most.
    static let byteCount = slots * MemoryLayout<Entry>.stride + pairSlots * MemoryLayout<Pair>.stride + (1 << 12)

    private static let slots = 1 << 14
    private static let pairSlots = 1 << 14

    /// A piece of at most 15 bytes and its tokens, four at most.
    private struct Entry {
        var key: (UInt64, UInt64) = (0, 0)
        var tokens: (Int32, Int32, Int32, Int32) = (0, 0, 0, 0)
        var count: Int32 = 0
    }

    private let tokens = UnsafeMutablePointer<Int32>.allocate(capacity: symbolLimit + 1)
    private let ranks = UnsafeMutablePointer<Int32>.allocate(capacity: symbolLimit + 1)
    private let entries: UnsafeMutablePointer<Entry>?
    private let pairs: UnsafeMutablePointer<Pair>
    /// A hash's upper bits are its slot.
    private let pairShift: UInt64
    private let filter: MergeFilter?
    /// Known once a piece of a long text has wanted them.
    var characters: WholeCharacters?
    private(set) var count = 0
    /// Whether pieces are remembered: the text is long.
    var remembers: Bool { entries != nil }

    /// - Parameter remembers: keeps the tokens of pieces and of many pairs, which is of no use for a short text.
    init(remembers: Bool, filter: MergeFilter?) {
        self.filter = filter
        entries = remembers ? .allocate(capacity: Self.slots) : nil
        let slots = remembers ? Self.pairSlots : Self.pairSlots / 64
        pairShift = UInt64(64 - slots.trailingZeroBitCount)
        pairs = .allocate(capacity: slots)
        pairs.initialize(repeating: Pair(), count: slots)
        entries?.initialize(repeating: Entry(), count: Self.slots)
    }

    deinit {
        tokens.deallocate()
        ranks.deallocate()
        pairs.deallocate()
        entries?.deallocate()
    }

    // MARK: Pieces that have come before

    typealias Key = (UInt64, UInt64)

    /// The bytes of a short piece and their number as one value; nil for longer ones.
    @inline(__always)
    static func key(_ bytes: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>) -> Key? {
        let count = piece.count
        guard count < 16 else { return nil }
        var key: Key
        if piece.lowerBound + 16 <= bytes.count {
            let raw = UnsafeRawBufferPointer(bytes)
            key.0 = raw.loadUnaligned(fromByteOffset: piece.lowerBound, as: UInt64.self).littleEndian
            key.1 = raw.loadUnaligned(fromByteOffset: piece.lowerBound + 8, as: UInt64.self).littleEndian
            if count < 8 { key = (key.0 & ((1 << UInt64(count * 8)) &- 1), 0) }
            if count >= 8 { key.1 &= (1 << UInt64((count - 8) * 8)) &- 1 }
        } else {
            key = (0, 0)
            for (index, at) in piece.enumerated() {
                let byte = UInt64(bytes[at])
                if index < 8 { key.0 |= byte << UInt64(index * 8) } else { key.1 |= byte << UInt64((index - 8) * 8) }
            }
        }
        key.1 |= UInt64(count) << 56
        return key
    }

    private static func slot(_ key: Key) -> Int {
        // Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4).
        let mixed = (key.0 ^ (key.1 &* 0x9E37_79B9_7F4A_7C15)) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: mixed >> 40) & (slots - 1)
    }

    /// Appends the tokens of a piece that has come before.
    @inline(__always)
    func recall(_ key: Key, into ids: inout [Int32]) -> Bool {
        guard let entry = entries.map({ $0 + Self.slot(key) }), entry.pointee.key == key else { return false }
        let (count, tokens) = (entry.pointee.count, entry.pointee.tokens)
        ids.append(tokens.0)
        if count > 1 { ids.append(tokens.1) }
        if count > 2 { ids.append(tokens.2) }
        if count > 3 { ids.append(tokens.3) }
        return true
    }

    func remember(_ key: Key, _ found: ArraySlice<Int32>) {
        guard let entry = entries.map({ $0 + Self.slot(key) }), (1...4).contains(found.count) else { return }
        func token(_ index: Int) -> Int32 { index < found.count ? found[found.startIndex + index] : 0 }
        entry.pointee = Entry(
            key: key, tokens: (token(0), token(1), token(2), token(3)), count: Int32(found.count))
    }

    // MARK: Merging

    func begin() { count = 0 }

    /// Adds a symbol. There must be fewer than ``symbolLimit``.
    @inline(__always)
    func append(_ token: Int32) {
        tokens[count] = token
        count += 1
    }

    /// Merges neighbours, best rank first, the leftmost of equals, until no pair merges.
    /// - Returns: how many pairs have been looked at.
    func merge(_ merges: MergeTable) -> Int {
        var work = count
        for at in 0..<max(count - 1, 0) { look(at, merges) }
        while count > 1 {
            var rank = Int32.max
            for at in 0..<count - 1 { rank = min(rank, ranks[at]) }
            guard rank < .max else { break }
            var best = 0
            while ranks[best] != rank { best += 1 }
            tokens[best] = pair(best, merges).pointee.made
            let moved = count - best - 2
            (tokens + best + 1).update(from: tokens + best + 2, count: moved)
            (ranks + best + 1).update(from: ranks + best + 2, count: moved)
            count -= 1
            if best + 1 < count { look(best, merges) }
            if best > 0 { look(best - 1, merges) }
            work += 1
        }
        return work
    }

    /// What two tokens merge to, which comes up again and again.
    private struct Pair {
        var key: UInt64 = .max
        var rank: Int32 = .max
        var made: Int32 = -1
    }

    @inline(__always)
    private func look(_ at: Int, _ merges: MergeTable) { ranks[at] = pair(at, merges).pointee.rank }

    @inline(__always)
    private func pair(_ at: Int, _ merges: MergeTable) -> UnsafeMutablePointer<Pair> {
        let (left, right) = (UInt32(bitPattern: tokens[at]), UInt32(bitPattern: tokens[at + 1]))
        let key = UInt64(left) << 32 | UInt64(right)
        let pair = pairs + Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> pairShift)
        if pair.pointee.key != key {
            let isNone = Int32(bitPattern: left | right) < 0 || filter?.mayMerge(key) == false
            let merge = isNone ? nil : merges.merge(tokens[at], tokens[at + 1])
            pair.pointee = Pair(key: key, rank: merge?.rank ?? .max, made: merge?.token ?? -1)
        }
        return pair
    }

    /// Symbol `index` after merging.
    subscript(index: Int) -> Int32 { tokens[index] }
}
