/// From a pair of tokens to the token that they make and its rank, in byte-pair encoding: a flat hash table that is used
/// where it is mapped. A container may hold anything, so every look-up checks what it finds.
public struct MergeTable: Sendable {
    /// For each merge, by rank: left token, right token, the token that they make.
    private let merges: Numbers<Int32>
    /// Open addressing: ranks; -1 is empty.
    private let table: Numbers<Int32>
    private let tokens: Int32

    static let mergesKey = "tokenizer.ebb.merges"
    private static let tableKey = "tokenizer.ebb.merge_slots"
    /// Older containers have a table under this key whose hash leaves out the left token: it is read, not written.
    private static let oldTableKey = "tokenizer.ebb.merge_table"
    private let isOld: Bool

    /// - Throws: ``FormatError`` where there are no merges, or they are malformed.
    public init(_ metadata: Metadata, _ vocabulary: Vocabulary) throws {
        tokens = Int32(vocabulary.count)
        guard metadata[Self.mergesKey] != nil else {
            (merges, table) = try Self.build(metadata, vocabulary)
            isOld = false
            return
        }
        guard let merges = metadata.numbers(Self.mergesKey, Int32.self), merges.count % 3 == 0,
            let table = metadata.numbers(Self.tableKey, Int32.self) ?? metadata.numbers(Self.oldTableKey, Int32.self),
            HashTable.isPossible(table.count)
        else { throw FormatError("the tokenizer's table of merges is damaged; import the model again") }
        (self.merges, self.table) = (merges, table)
        isOld = metadata[Self.tableKey] == nil
    }

    /// GGUF's merges are texts, `left right`, in order of rank.
    private static func build(
        _ metadata: Metadata, _ vocabulary: Vocabulary
    ) throws -> (merges: Numbers<Int32>, table: Numbers<Int32>) {
        guard let list = metadata.array("tokenizer.ggml.merges"), list.isStrings else {
            throw FormatError("the tokenizer has no merges (tokenizer.ggml.merges)")
        }
        return try build(count: list.count, vocabulary, TokenSpelling(metadata)) { rank in
            let text = list.string(rank)
            // The first character may itself be a space, so the separator is searched from the second on.
            guard let space = text.dropFirst().firstIndex(of: 0x20) else {
                throw FormatError("merge \(rank) of the tokenizer has no space between its parts")
            }
            return (Array(text[..<space]), Array(text[(space + 1)...]))
        }
    }

    /// - Throws: ``FormatError`` where merges cannot be told apart.
    init(_ pairs: [(left: String, right: String)], _ vocabulary: Vocabulary, _ spelling: TokenSpelling) throws {
        tokens = Int32(vocabulary.count)
        isOld = false
        (merges, table) = try Self.build(count: pairs.count, vocabulary, spelling) { rank in
            (Array(pairs[rank].left.utf8), Array(pairs[rank].right.utf8))
        }
    }

    private static func build(
        count: Int, _ vocabulary: Vocabulary, _ spelling: TokenSpelling, pair: (Int) throws -> ([UInt8], [UInt8])
    ) throws -> (merges: Numbers<Int32>, table: Numbers<Int32>) {
        var merges: [Int32] = []
        merges.reserveCapacity(count * 3)
        for rank in 0..<count {
            let parts = try pair(rank)
            var (left, right): ([UInt8], [UInt8]) = ([], [])
            parts.0.withUnsafeBytes { _ = spelling.spell($0, into: &left) }
            parts.1.withUnsafeBytes { _ = spelling.spell($0, into: &right) }
            // A merge whose parts are no tokens can never apply.
            if let a = vocabulary.id(left), let b = vocabulary.id(right), let made = vocabulary.id(left + right) {
                merges += [a, b, made]
            }
        }
        var table = [Int32](repeating: -1, count: HashTable.slots(for: merges.count / 3))
        for rank in 0..<merges.count / 3 {
            let (a, b) = (merges[rank * 3], merges[rank * 3 + 1])
            let slot = HashTable.find(hash(a, b), slots: table.count) { slot in
                let other = Int(table[slot])
                return other < 0 || (merges[other * 3] == a && merges[other * 3 + 1] == b)
            }
            guard let slot else { throw HashTable.overfull }
            if table[slot] < 0 { table[slot] = Int32(rank) }
        }
        return (Numbers(merges), Numbers(table))
    }

    /// What two neighbours become, and the merge's rank (smaller goes first); nil where they stay apart.
    public func merge(_ a: Int32, _ b: Int32) -> (rank: Int32, token: Int32)? {
        let hash = isOld ? Self.oldHash(a, b) : Self.hash(a, b)
        var found: Int32 = -1
        let slot = HashTable.find(hash, slots: table.count, limit: isOld ? .max : HashTable.probeLimit) { slot in
            found = table[slot]
            let rank = Int(found)
            return !isMerge(rank) || (merges[rank * 3] == a && merges[rank * 3 + 1] == b)
        }
        // What was compared, not what may stand in the file by now.
        guard slot != nil, isMerge(Int(found)) else { return nil }
        let made = merges[Int(found) * 3 + 2]
        return (0..<tokens).contains(made) ? (found, made) : nil
    }

    /// How many merges there are.
    public var count: Int { merges.count / 3 }

    /// The two tokens of a merge, which must be in 0..<count, and the one that they make; a file may say anything.
    public subscript(rank: Int) -> (left: Int32, right: Int32, made: Int32) {
        (merges[rank * 3], merges[rank * 3 + 1], merges[rank * 3 + 2])
    }

    private func isMerge(_ rank: Int) -> Bool { rank >= 0 && rank < merges.count / 3 }

    private static func pair(_ a: Int32, _ b: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: a)) << 32 | UInt64(UInt32(bitPattern: b))
    }

    private static func hash(_ a: Int32, _ b: Int32) -> UInt64 {
        // Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4).
        (pair(a, b) &* 0x9E37_79B9_7F4A_7C15) >> 32
    }

    private static func oldHash(_ a: Int32, _ b: Int32) -> UInt64 { pair(a, b) &* (0x9E37_79B9_7F4A_7C15 >> 32) }

    func encode(into metadata: inout MetadataEncoder) {
        metadata.set(Self.mergesKey, merges)
        metadata.set(isOld ? Self.oldTableKey : Self.tableKey, table)
    }
}
