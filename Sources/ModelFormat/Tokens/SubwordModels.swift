/// The model of a tokenizer.json that merges pairs.
struct BytePairJSON: Sendable {
    let vocabulary: Vocabulary
    private let merges: MergeTable
    private let isByteLevel: Bool
    private let ignoresMerges: Bool
    private let unknown: Int?
    private let fusesUnknown: Bool
    private let hasBytes: Bool

    /// Whether characters that are no token have no part in it: bytes always are.
    var isPlain: Bool { isByteLevel && unknown == nil && !hasBytes }

    init(_ model: JSONMembers, _ added: AddedTokens, _ path: String, rows: Int, isByteLevel: Bool) throws {
        try model.allow([
            "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
            "byte_fallback", "ignore_merges", "vocab", "merges",
        ])
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] where try model.string(key)?.isEmpty == false {
            throw model.refusal(key, "is not empty, which is not supported with BPE")
        }
        if let dropout = model["dropout"]?.number, dropout > 0 {
            throw model.refusal("dropout", "is \(dropout): tokens would be drawn by chance")
        }
        self.isByteLevel = isByteLevel
        hasBytes = try model.bool("byte_fallback") ?? false
        fusesUnknown = try model.bool("fuse_unk") ?? false
        ignoresMerges = try model.bool("ignore_merges") ?? false
        if hasBytes, isByteLevel { throw model.refusal("byte_fallback", "is true, but bytes are tokens as it is") }
        var tokens = try TokenizerJSON.vocabulary(model, model.what)
        if let name = try model.string("unk_token") {
            guard let id = tokens.firstIndex(of: name) else {
                throw model.refusal("unk_token", "is \(name), no token of the vocabulary")
            }
            unknown = id
        } else {
            unknown = nil
        }
        var kinds = hasBytes ? tokens.map(Self.kind) : [Vocabulary.Kind](repeating: .normal, count: tokens.count)
        try added.add(to: &tokens, &kinds)
        Vocabulary.fill(&tokens, &kinds, rows: rows)
        let spelling: TokenSpelling = isByteLevel ? .byteLevel : .text
        vocabulary = try Vocabulary(tokens, kinds, spelling)
        merges = try Self.merges(model, vocabulary, spelling)
    }

    /// A token `<0xHH>` stands for a byte that is left over.
    fileprivate static func kind(_ token: String) -> Vocabulary.Kind {
        token.utf8.count == 6 && token.hasPrefix("<0x") && token.hasSuffix(">")
            && UInt8(token.dropFirst(3).dropLast(), radix: 16) != nil ? .byte : .normal
    }

    private static func merges(
        _ model: JSONMembers, _ vocabulary: Vocabulary, _ spelling: TokenSpelling
    ) throws -> MergeTable {
        guard let list = model["merges"]?.array else { throw model.refusal("merges", "is no list") }
        let pairs = try list.enumerated().map { rank, node -> (left: String, right: String) in
            let parts = node.array?.compactMap(\.string) ?? node.string?.split(separator: " ").map(String.init) ?? []
            guard parts.count == 2, parts.allSatisfy({ !$0.isEmpty }) else {
                throw FormatError("\(model.what): merges[\(rank)] is no pair of tokens")
            }
            return (parts[0], parts[1])
        }
        let merges = try MergeTable(pairs, vocabulary, spelling)
        guard merges.count == pairs.count else {
            throw model.refusal("merges", "has pairs that are no tokens of the vocabulary, or make none")
        }
        return merges
    }

    func encode(into metadata: inout MetadataEncoder) {
        metadata.set("tokenizer.ggml.model", "gpt2")
        if !isByteLevel { metadata.set(TokenSpelling.textKey, true) }
        metadata.set("tokenizer.ebb.ignores_merges", ignoresMerges)
        if let unknown { metadata.set("tokenizer.ggml.unknown_token_id", UInt32(clamping: unknown)) }
        if fusesUnknown { metadata.set("tokenizer.ebb.fuses_unknown", true) }
        merges.encode(into: &metadata)
    }
}

/// The model of a tokenizer.json that finds the best path of tokens with scores.
struct UnigramJSON: Sendable {
    let vocabulary: Vocabulary
    private let scores: [Float]
    private let unknown: Int
    private let hasBytes: Bool

    init(_ model: JSONMembers, _ added: AddedTokens, _ path: String, rows: Int) throws {
        try model.allow(["type", "unk_id", "vocab", "byte_fallback"])
        hasBytes = try model.bool("byte_fallback") ?? false
        guard let list = model["vocab"]?.array else { throw model.refusal("vocab", "is no list") }
        var (tokens, scores): ([String], [Float]) = ([], [])
        for (id, node) in list.enumerated() {
            guard let pair = node.array, pair.count == 2, let token = pair[0].string, let score = pair[1].number else {
                throw FormatError("\(model.what): vocab[\(id)] is no token with its score")
            }
            tokens.append(token)
            scores.append(Float(score))
        }
        var kinds =
            hasBytes ? tokens.map(BytePairJSON.kind) : [Vocabulary.Kind](repeating: .normal, count: tokens.count)
        try added.add(to: &tokens, &kinds)
        Vocabulary.fill(&tokens, &kinds, rows: rows)
        // The model itself does not know those that follow its vocabulary.
        scores += [Float](repeating: -.infinity, count: tokens.count - scores.count)
        unknown = try model.int("unk_id") ?? -1
        guard tokens.indices.contains(unknown) else { throw model.refusal("unk_id", "is missing or impossible") }
        if kinds[unknown] == .normal { kinds[unknown] = .unknown }
        vocabulary = try Vocabulary(tokens, kinds, .text)
        guard !hasBytes || vocabulary.byteTokens().allSatisfy({ $0 >= 0 }) else {
            throw model.refusal("byte_fallback", "is true, but not every byte has a token")
        }
        self.scores = scores
    }

    func encode(into metadata: inout MetadataEncoder) {
        metadata.set("tokenizer.ggml.model", "t5")
        metadata.set("tokenizer.ebb.keeps_scores", true)
        if hasBytes { metadata.set("tokenizer.ebb.spells_unknown", true) }
        metadata.set("tokenizer.ggml.scores", floats: scores)
        metadata.set("tokenizer.ggml.unknown_token_id", UInt32(clamping: unknown))
    }
}

/// The model of a tokenizer.json that takes the longest piece of a word, where its text is not what BERT's is.
struct WordPieceJSON: Sendable {
    let vocabulary: Vocabulary
    private let unknown: Int
    private let continuation: String
    private let longestWord: Int

    init(_ model: JSONMembers, _ added: AddedTokens, _ path: String, rows: Int) throws {
        try model.allow(["type", "vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word"])
        var tokens = try TokenizerJSON.vocabulary(model, model.what)
        guard let unknown = tokens.firstIndex(of: try model.string("unk_token") ?? "[UNK]") else {
            throw FormatError("\(path): the vocabulary lacks model.unk_token, [UNK] as a rule")
        }
        self.unknown = unknown
        continuation = try model.string("continuing_subword_prefix") ?? "##"
        longestWord = try model.int("max_input_chars_per_word") ?? 100
        guard !continuation.isEmpty else { throw model.refusal("continuing_subword_prefix", "is empty") }
        guard (0...Int(Int32.max)).contains(longestWord) else {
            throw model.refusal("max_input_chars_per_word", "is \(longestWord)")
        }
        if let token = added.tokens.first(where: { $0.flags & AddedTokens.isWord != 0 }) {
            throw FormatError(
                "\(path): the added token \(token.text) has single_word, which is not supported with WordPiece")
        }
        var kinds = [Vocabulary.Kind](repeating: .normal, count: tokens.count)
        try added.add(to: &tokens, &kinds)
        Vocabulary.fill(&tokens, &kinds, rows: rows)
        vocabulary = try Vocabulary(tokens, kinds, .text)
    }

    func encode(into metadata: inout MetadataEncoder) {
        metadata.set("tokenizer.ggml.model", "wordpiece")
        metadata.set("tokenizer.ggml.unknown_token_id", UInt32(clamping: unknown))
        metadata.set("tokenizer.ebb.continuation", continuation)
        metadata.set("tokenizer.ebb.longest_word", UInt32(clamping: longestWord))
    }
}
