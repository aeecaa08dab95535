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
        byteTokens = (0...255).map { vocabulary.id([UInt8($0)]) ?? -1 }
        merges = try MergeTable(metadata, vocabulary)
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
            for symbol in queue.run(symbols, rank: merge) where symbol.token >= 0 { ids.append(symbol.token) }
        }
    }

    private func merge(_ a: MergeQueue.Symbol, _ b: MergeQueue.Symbol) -> (order: Float, token: Int32)? {
        guard a.token >= 0, b.token >= 0, let merge = merges.merge(a.token, b.token) else { return nil }
        // Ranks stay below 2^24, where Float counts exactly.
        return (Float(merge.rank), merge.token)
    }
}
