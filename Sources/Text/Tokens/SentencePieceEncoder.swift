import ModelFormat

/// SentencePiece BPE: characters merged by the score of the token they make, bytes for what is left
/// (Kudo & Richardson 2018). Spaces are written as U+2581.
struct SentencePieceEncoder: Sendable {
    static let space: [UInt8] = [0xe2, 0x96, 0x81]
    private let vocabulary: Vocabulary
    /// Each token's score, as the bits of a Float.
    private let scores: Numbers<UInt32>
    private let addsSpacePrefix: Bool
    private let byteTokens: [Int32]
    private let unknown: Int32?

    init(_ metadata: Metadata, vocabulary: Vocabulary) throws {
        self.vocabulary = vocabulary
        guard let scores = metadata.floatBits("tokenizer.ggml.scores"), scores.count == vocabulary.count else {
            throw TextError("the tokenizer lacks a score for each token (tokenizer.ggml.scores)")
        }
        self.scores = scores
        addsSpacePrefix = metadata.bool("tokenizer.ggml.add_space_prefix") ?? true
        var bytes = [Int32](repeating: -1, count: 256)
        for id in 0..<Int32(vocabulary.count) where vocabulary.kind(id) == .byte {
            if let byte = vocabulary.bytes(id).first { bytes[Int(byte)] = id }
        }
        byteTokens = bytes
        unknown = metadata.integer("tokenizer.ggml.unknown_token_id").flatMap(Int32.init(exactly:))
    }

    /// Appends the tokens of a text. `first`: nothing but special tokens stands before it.
    func encode(_ text: Substring, first: Bool, into ids: inout [Int32]) {
        guard !text.isEmpty else { return }
        var bytes: [UInt8] = addsSpacePrefix && first ? Self.space : []
        for byte in text.utf8 {
            if byte == 0x20 { bytes += Self.space } else { bytes.append(byte) }
        }
        var symbols: [MergeQueue.Symbol] = []
        var at = 0
        while at < bytes.count {
            let lead = bytes[at]
            let length = min(lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4, bytes.count - at)
            let token = vocabulary.id(bytes[at..<at + length]) ?? -1
            let index = symbols.count
            symbols.append(.init(start: at, length: length, token: token, previous: index - 1, next: index + 1))
            at += length
        }
        symbols[symbols.count - 1].next = -1
        var queue = MergeQueue()
        let merged = queue.run(symbols) { a, b in
            guard let token = vocabulary.id(bytes[a.start..<a.start + a.length + b.length]) else { return nil }
            return (-Float(bitPattern: scores[Int(token)]), token)
        }
        for symbol in merged {
            if symbol.token >= 0 {
                ids.append(symbol.token)
                continue
            }
            for byte in bytes[symbol.start..<symbol.start + symbol.length] {
                if byteTokens[Int(byte)] >= 0 {
                    ids.append(byteTokens[Int(byte)])
                } else if let unknown {
                    ids.append(unknown)
                }
            }
        }
    }
}
