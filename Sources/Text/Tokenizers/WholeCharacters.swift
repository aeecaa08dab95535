import ModelFormat

/// Characters whose bytes merge to one token, which byte-pair encoding can begin with instead of the bytes: in Chinese that
/// spares most merges. Made when a long text first wants it.
///
/// The tokens are the same as long as no merge reaches across a character's edge before its bytes are one token. Few merges
/// can (``EarlyMerges``): where two neighbours might meet in one, encoding begins with bytes.
final class WholeCharacters: Sendable {
    /// A character's token, and how it might merge too early with its neighbours.
    struct Known {
        fileprivate let bits: UInt32

        var token: Int32 { Int32(bits & WholeCharacters.tokenMask) }

        /// Whether a merge across the edge between this character and the next might come too early.
        @inline(__always)
        func mayMergeEarly(with next: Known) -> Bool { bits >> 30 & next.bits >> 28 & 3 != 0 }
    }

    /// By scalar, U+FFFF at most.
    private let characters: [UInt32]
    private static let none = UInt32.max
    fileprivate static let tokenMask: UInt32 = 1 << 28 - 1

    init(_ merges: MergeTable, _ vocabulary: Vocabulary, byteTokens: [Int32]) {
        guard vocabulary.count < Self.tokenMask, let early = EarlyMerges(merges, vocabulary) else {
            characters = []
            return
        }
        var characters = [UInt32](repeating: Self.none, count: 1 << 16)
        for byte in 0..<0x80 where byteTokens[byte] >= 0 {
            characters[byte] = UInt32(byteTokens[byte]) | early.flags([UInt8(byte)], [])
        }
        for rank in 0..<merges.count {
            let made = merges[rank].made
            guard (2...3).contains(vocabulary.byteCount(made)) else { continue }
            let bytes = vocabulary.bytes(made)
            guard let index = Self.index(bytes), index >= 0x80,
                let whole = MergedCharacter(bytes.map { byteTokens[Int($0)] }, merges)
            else { continue }
            characters[index] = UInt32(whole.token) | early.flags(bytes, whole.parts)
        }
        self.characters = characters
    }

    /// What is known of the character at `at`, and its bytes; nil where encoding must begin with bytes.
    @inline(__always)
    func find(_ bytes: UnsafeBufferPointer<UInt8>, _ at: Int, _ end: Int) -> (known: Known, length: Int)? {
        let lead = bytes[at]
        let length = UTF8Text.length(lead)
        guard at + length <= end else { return nil }
        let index =
            switch length {
            case 1: Int(lead)
            case 2: Int(lead & 0x1f) << 6 | Int(bytes[at + 1] & 0x3f)
            case 3: Int(lead & 0x0f) << 12 | Int(bytes[at + 1] & 0x3f) << 6 | Int(bytes[at + 2] & 0x3f)
            default: Int.max
            }
        guard index < characters.count, characters[index] != Self.none else { return nil }
        return (Known(bits: characters[index]), length)
    }

    /// The scalar that bytes are, where they are one of at most U+FFFF.
    fileprivate static func index(_ bytes: [UInt8]) -> Int? {
        guard (1...3).contains(bytes.count), UTF8Text.length(bytes[0]) == bytes.count else { return nil }
        let (scalar, end) = UTF8Text.scalar(bytes, 0)
        return end == bytes.count && bytes.dropFirst().allSatisfy { $0 & 0xc0 == 0x80 } ? Int(scalar.value) : nil
    }
}

/// A character's bytes on their way to one token.
private struct MergedCharacter {
    /// Some of its bytes, which stand at an edge until a merge takes them.
    struct Part {
        let bytes: Range<Int>
        let takenBy: Int32
    }

    let token: Int32
    private(set) var parts: [Part] = []

    /// - Returns: nil where the bytes become more than one token.
    init?(_ bytes: [Int32], _ merges: MergeTable) {
        var symbols = bytes.indices.map { (token: bytes[$0], bytes: $0..<$0 + 1) }
        while symbols.count > 1 {
            var best: (at: Int, rank: Int32, token: Int32)?
            for at in 0..<symbols.count - 1 where symbols[at].token >= 0 && symbols[at + 1].token >= 0 {
                guard let merge = merges.merge(symbols[at].token, symbols[at + 1].token) else { continue }
                if merge.rank < best?.rank ?? .max { best = (at, merge.rank, merge.token) }
            }
            guard let best else { return nil }
            let (left, right) = (symbols[best.at].bytes, symbols[best.at + 1].bytes)
            if left.lowerBound == 0 { parts.append(Part(bytes: left, takenBy: best.rank)) }
            if right.upperBound == bytes.count { parts.append(Part(bytes: right, takenBy: best.rank)) }
            symbols[best.at] = (best.token, left.lowerBound..<right.upperBound)
            symbols.remove(at: best.at + 1)
        }
        guard let token = symbols.first?.token else { return nil }
        self.token = token
    }
}

/// The merges across an edge between characters that have a part of a character on one side. Others that do so have tokens
/// on one side that these have made.
private struct EarlyMerges {
    /// By the bytes that a character begins with: the first merge that joins them to what stands before.
    private var heads: [[UInt8]: Int32] = [:]
    /// By the bytes that a character ends with: the first merge that joins whole characters to them.
    private var tails: [[UInt8]: Int32] = [:]
    /// What may stand on the other side: characters that end what is joined to a head, or parts that do, and characters that
    /// begin what is joined to a tail.
    private var beforeHeads: Set<Int> = []
    private var partsBeforeHeads: Set<[UInt8]> = []
    private var behindTails: Set<Int> = []

    /// - Returns: nil where a merge comes before one that makes its sides: then ranks say nothing of what comes first.
    init?(_ merges: MergeTable, _ vocabulary: Vocabulary) {
        var made = [Int32](repeating: -1, count: vocabulary.count)
        for rank in 0..<merges.count {
            let token = Int(merges[rank].made)
            if made.indices.contains(token) { made[token] = Int32(rank) }
        }
        for rank in 0..<merges.count {
            let (left, right, _) = merges[rank]
            guard made.indices.contains(Int(left)), made.indices.contains(Int(right)), made[Int(left)] < rank,
                made[Int(right)] < rank
            else { return nil }
            // Within a character, the right side begins with a byte that continues it.
            guard let first = vocabulary.byte(right, 0), first & 0xc0 != 0x80 else { continue }
            let isPart = first >= 0xc0 && vocabulary.byteCount(right) < UTF8Text.length(first)
            if isPart || vocabulary.byte(left, 0).map({ $0 & 0xc0 == 0x80 }) == true {
                let count = vocabulary.byteCount(left)
                add(
                    (max(0, count - 4)..<count).compactMap { vocabulary.byte(left, $0) },
                    (0..<4).compactMap { vocabulary.byte(right, $0) }, isPart, Int32(rank))
            }
        }
    }

    /// - Parameters:
    ///   - left: the last bytes of the left side, which hold a character.
    ///   - right: the first bytes of the right side.
    private mutating func add(_ left: [UInt8], _ right: [UInt8], _ isPart: Bool, _ rank: Int32) {
        let isTail = left.count < 4 && left.allSatisfy { $0 & 0xc0 == 0x80 }
        if isPart {
            heads[right] = heads[right] ?? rank
            if isTail { partsBeforeHeads.insert(left) }
            if let start = left.lastIndex(where: { $0 & 0xc0 != 0x80 }),
                let index = WholeCharacters.index(Array(left[start...]))
            {
                beforeHeads.insert(index)
            }
        } else if isTail {
            tails[left] = tails[left] ?? rank
            if let index = WholeCharacters.index(Array(right.prefix(UTF8Text.length(right.first ?? 0)))) {
                behindTails.insert(index)
            }
        }
    }

    /// The bits of ``WholeCharacters/Known``: two for the edge before a character, two for the one behind it. An edge has
    /// the same bit on both sides where one side has a part that lives long enough, and the other what it would merge with.
    func flags(_ bytes: [UInt8], _ parts: [MergedCharacter.Part]) -> UInt32 {
        let index = WholeCharacters.index(bytes) ?? -1
        let isJoined = parts.contains { $0.takenBy > heads[Array(bytes[$0.bytes])] ?? .max }
        let joins = parts.contains { $0.takenBy > tails[Array(bytes[$0.bytes])] ?? .max }
        let isBeforeHead =
            beforeHeads.contains(index) || parts.contains { partsBeforeHeads.contains(Array(bytes[$0.bytes])) }
        var flags: UInt32 = isJoined ? 1 << 28 : 0
        if behindTails.contains(index) { flags |= 1 << 29 }
        if isBeforeHead { flags |= 1 << 30 }
        if joins { flags |= 1 << 31 }
        return flags
    }
}
