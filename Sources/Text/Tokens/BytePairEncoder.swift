import ModelFormat

/// Byte-level BPE: the pieces of a pre-tokenizer, merged by rank (Sennrich et al. 2016; Radford et al. 2019).
struct BytePairEncoder: Sendable {
    private let preTokenizer: PreTokenizer
    /// The token of each single byte; -1 where the vocabulary has none (such a byte is dropped, as llama.cpp does).
    private let byteTokens: [Int32]
    private let merges: MergeTable

    init(_ metadata: Metadata, vocabulary: Vocabulary) throws {
        let name = metadata.string("tokenizer.ggml.pre") ?? "default"
        guard let preTokenizer = PreTokenizer(rawValue: name) else {
            throw TextError("the pre-tokenizer \"\(name)\" is not supported (smollm and qwen2 are)")
        }
        self.preTokenizer = preTokenizer
        byteTokens = (0...255).map { vocabulary.id(CollectionOfOne(UInt8($0))) ?? -1 }
        guard let list = metadata.array("tokenizer.ggml.merges"), list.isStrings else {
            throw TextError("the tokenizer has no merges (tokenizer.ggml.merges)")
        }
        merges = try MergeTable(list, vocabulary)
    }

    /// Appends the tokens of a text.
    func encode(_ text: Substring, into ids: inout [Int32]) {
        let scalars = Array(text.unicodeScalars)
        var queue = MergeQueue()
        var start = 0
        for end in preTokenizer.split(scalars) {
            var symbols: [MergeQueue.Symbol] = []
            for scalar in scalars[start..<end] {
                for byte in UTF8.encode(scalar).map(Array.init) ?? [] {
                    let at = symbols.count
                    symbols.append(
                        .init(start: at, length: 1, token: byteTokens[Int(byte)], previous: at - 1, next: at + 1))
                }
            }
            start = end
            symbols[symbols.count - 1].next = -1
            for symbol in queue.run(symbols, rank: merges.merge) where symbol.token >= 0 { ids.append(symbol.token) }
        }
    }
}

/// From a pair of tokens to the token that they make and its rank, in a flat hash table.
private struct MergeTable: Sendable {
    private var keys: [UInt64]
    private var ranks: [Int32]
    private var tokens: [Int32]
    private static let empty = UInt64.max

    init(_ list: MetadataArray, _ vocabulary: Vocabulary) throws {
        var size = 16
        while size < list.count * 2 { size *= 2 }
        keys = Array(repeating: Self.empty, count: size)
        ranks = Array(repeating: 0, count: size)
        tokens = ranks
        var left: [UInt8] = []
        var right: [UInt8] = []
        for rank in 0..<list.count {
            let text = list.string(rank)
            // The first character may itself be a space, so the separator is searched from the second on.
            guard let space = text.dropFirst().firstIndex(of: 0x20) else {
                throw TextError("merge \(rank) of the tokenizer has no space between its parts")
            }
            left.removeAll(keepingCapacity: true)
            right.removeAll(keepingCapacity: true)
            ByteLevel.spell(UnsafeRawBufferPointer(rebasing: text[..<space]), into: &left)
            ByteLevel.spell(UnsafeRawBufferPointer(rebasing: text[(space + 1)...]), into: &right)
            guard let a = vocabulary.id(left), let b = vocabulary.id(right), let made = vocabulary.id(left + right)
            else {
                continue  // a merge whose parts are no tokens can never apply
            }
            insert(Self.key(a, b), rank: Int32(rank), token: made)
        }
    }

    private static func key(_ a: Int32, _ b: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: a)) << 32 | UInt64(UInt32(bitPattern: b))
    }

    private func slot(_ key: UInt64) -> Int {
        var slot = Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 20) & (keys.count - 1)
        while keys[slot] != Self.empty, keys[slot] != key { slot = (slot + 1) & (keys.count - 1) }
        return slot
    }

    private mutating func insert(_ key: UInt64, rank: Int32, token: Int32) {
        let slot = slot(key)
        guard keys[slot] == Self.empty else { return }
        keys[slot] = key
        ranks[slot] = rank
        tokens[slot] = token
    }

    func merge(_ a: MergeQueue.Symbol, _ b: MergeQueue.Symbol) -> (order: Float, token: Int32)? {
        guard a.token >= 0, b.token >= 0 else { return nil }
        let slot = slot(Self.key(a.token, b.token))
        // Ranks stay below 2^24, where Float counts exactly.
        return keys[slot] == Self.empty ? nil : (Float(ranks[slot]), tokens[slot])
    }
}
