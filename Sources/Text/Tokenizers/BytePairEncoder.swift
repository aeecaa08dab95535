import ModelFormat

/// Byte-pair encoding: the pieces of a pre-tokenizer, merged by rank (Sennrich et al. 2016), from single bytes as GPT-2 does
/// (Radford et al. 2019) or from characters, with bytes for those that are no token.
struct BytePairEncoder: Sendable {
    private let preTokenizer: PreTokenizer
    private let composes: Bool
    private let ignoresMerges: Bool
    private let vocabulary: Vocabulary
    /// The token of each single byte; -1 where the vocabulary has none (such a byte is dropped, as llama.cpp does).
    private let byteTokens: [Int32]
    private let merges: MergeTable
    private let filter = MadeOnce<MergeFilter>()
    private let characters = MadeOnce<WholeCharacters>()
    /// Tokens are spelled as text, spaces as U+2581; otherwise as bytes.
    let isText: Bool
    private let unknown: UnknownSymbols
    /// Whether BOS goes before a text where the file does not say.
    let addsBOS: Bool

    init(_ metadata: Metadata, vocabulary: Vocabulary) throws {
        let rules = try Self.rules(metadata)
        preTokenizer = PreTokenizer(rules.steps)
        (composes, ignoresMerges, addsBOS) = (rules.composes, rules.ignoresMerges, rules.addsBOS)
        self.vocabulary = vocabulary
        isText = TokenSpelling(metadata) == .text
        byteTokens = isText ? vocabulary.byteTokens() : (0...255).map { vocabulary.id([UInt8($0)]) ?? -1 }
        merges = try MergeTable(metadata, vocabulary)
        unknown = UnknownSymbols(metadata, vocabulary, byteTokens: isText ? byteTokens : nil)
    }

    /// Those of the name in a GGUF file, or what a tokenizer.json said.
    private static func rules(_ metadata: Metadata) throws -> BytePairRules {
        if let patterns = metadata.array("tokenizer.ebb.split_patterns"), patterns.isStrings {
            let steps = (0..<patterns.count).map { String(decoding: patterns.string($0), as: UTF8.self) }
            let rules = BytePairRules(
                steps, ignoresMerges: metadata.bool("tokenizer.ebb.ignores_merges") ?? false,
                composes: metadata.bool("tokenizer.ebb.composes") ?? false)
            try PreTokenizer(rules.steps).check()
            return rules
        }
        if metadata[SplitBehavior.key] != nil {
            return BytePairRules([], ignoresMerges: metadata.bool("tokenizer.ebb.ignores_merges") ?? false)
        }
        let isGemma = metadata.string("tokenizer.ggml.model") == "gemma4"
        let name = isGemma ? "gemma4" : metadata.string("tokenizer.ggml.pre") ?? "default"
        guard let rules = BytePairRules(named: name) else {
            throw TextError("the pre-tokenizer \"\(name)\" is not supported")
        }
        return rules
    }

    /// What encoding a text of so many bytes works with.
    func scratch(forUTF8Count count: Int) -> BytePairScratch {
        let isLong = count >= BytePairScratch.rememberedText
        return BytePairScratch(remembers: isLong, filter: isLong ? filter.get { MergeFilter(merges) } : nil)
    }

    /// Appends the tokens of a part of a text.
    func encode(
        _ bytes: [UInt8], _ range: Range<Int>, _ scratch: BytePairScratch, into ids: inout [Int32],
        _ meter: inout WorkMeter
    ) throws(CancellationError) {
        if isText {
            let text = SentencePieceEncoder.escaped(bytes[range])
            return try encodeComposed(text, text.indices, scratch, into: &ids, &meter)
        }
        if composes, let composed = try CanonicalForms.composed(bytes, range, &meter) {
            return try encodeComposed(composed, composed.indices, scratch, into: &ids, &meter)
        }
        try encodeComposed(bytes, range, scratch, into: &ids, &meter)
    }

    private func encodeComposed(
        _ bytes: [UInt8], _ range: Range<Int>, _ scratch: BytePairScratch, into ids: inout [Int32],
        _ meter: inout WorkMeter
    ) throws(CancellationError) {
        var queue = MergeQueue()
        var pieces = preTokenizer.pieces(range)
        try bytes.withUnsafeBufferPointer { bytes throws(CancellationError) in
            while let piece = pieces.next(bytes) {
                try meter.add(piece.count)
                if let key = BytePairScratch.key(bytes, piece) {
                    if scratch.recall(key, into: &ids) { continue }
                    let first = ids.count
                    try encodeWhole(bytes, piece, scratch, &queue, into: &ids, &meter)
                    scratch.remember(key, ids[first...])
                } else {
                    try encodeWhole(bytes, piece, scratch, &queue, into: &ids, &meter)
                }
            }
        }
    }

    private func encodeWhole(
        _ bytes: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>, _ scratch: BytePairScratch,
        _ queue: inout MergeQueue, into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        if ignoresMerges, piece.count <= Self.wholeLimit {
            let text = Array(bytes[piece])
            if let id = vocabulary.id(text), vocabulary.kind(id) == .normal { return ids.append(id) }
        }
        if piece.count <= BytePairScratch.symbolLimit {
            return try encodeShort(bytes, piece, scratch, into: &ids, &meter)
        }
        var start = piece.lowerBound
        while start < piece.upperBound {
            let limit = start + MergeQueue.pieceLimit
            let stop =
                limit < piece.upperBound && isText
                ? UTF8Text.boundary(bytes, from: limit, end: piece.upperBound) : min(limit, piece.upperBound)
            try encodeLong(bytes, start..<stop, &queue, into: &ids, &meter)
            start = stop
        }
    }

    /// Bytes of a piece that is looked up whole; those of real vocabularies are below 512.
    private static let wholeLimit = 1024

    /// Calls `body` with the length and the token of each symbol that a piece begins as; -1 is none.
    @inline(__always)
    private func forEachSymbol(
        _ bytes: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>, _ body: (Int, Int32) -> Void
    ) {
        guard isText else {
            for at in piece { body(1, byteTokens[Int(bytes[at])]) }
            return
        }
        var at = piece.lowerBound
        while at < piece.upperBound {
            let length = min(UTF8Text.length(bytes[at]), piece.upperBound - at)
            body(length, vocabulary.id(Array(bytes[at..<at + length])) ?? -1)
            at += length
        }
    }

    private func encodeShort(
        _ bytes: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>, _ scratch: BytePairScratch,
        into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        var hasUnknown = false
        if !beginWithCharacters(bytes, piece, scratch) {
            scratch.begin()
            forEachSymbol(bytes, piece) { _, token in
                scratch.append(token)
                if token < 0 { hasUnknown = true }
            }
        }
        // Where a character is spelled in bytes, its place is wanted: the queue knows it.
        if hasUnknown, isText {
            var queue = MergeQueue()
            return try encodeLong(bytes, piece, &queue, into: &ids, &meter)
        }
        try meter.add(scratch.merge(merges))
        for index in 0..<scratch.count where scratch[index] >= 0 { ids.append(scratch[index]) }
    }

    /// Fills the scratch with the tokens of whole characters; false where merging must begin with bytes.
    @inline(__always)
    private func beginWithCharacters(
        _ bytes: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>, _ scratch: BytePairScratch
    ) -> Bool {
        // Words of other characters than ASCII's end in one, as a rule.
        guard scratch.remembers, !isText, bytes[piece.upperBound - 1] >= 0x80 else { return false }
        scratch.begin()
        let characters =
            scratch.characters
            ?? characters.get { WholeCharacters(merges, vocabulary, byteTokens: byteTokens) }
        scratch.characters = characters
        var before: WholeCharacters.Known?
        var at = piece.lowerBound
        while at < piece.upperBound {
            guard let (known, length) = characters.find(bytes, at, piece.upperBound),
                before?.mayMergeEarly(with: known) != true
            else { return false }
            scratch.append(known.token)
            before = known
            at += length
        }
        return true
    }

    private func encodeLong(
        _ bytes: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>, _ queue: inout MergeQueue,
        into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        queue.begin(bytes: piece.count)
        forEachSymbol(bytes, piece) { length, token in queue.append(length: length, token: token) }
        try queue.run(&meter) { _, left, right in
            guard left.token >= 0, right.token >= 0, let merge = merges.merge(left.token, right.token) else {
                return nil
            }
            // Ranks stay below 2^24, where Float counts exactly.
            return (Float(merge.rank), merge.token)
        }
        queue.trimCandidates()
        for (place, symbol) in queue.symbols.enumerated() where symbol.length > 0 {
            if symbol.token >= 0 {
                ids.append(symbol.token)
            } else if isText {
                let start = piece.lowerBound + place
                for byte in bytes[start..<start + Int(symbol.length)] where byteTokens[Int(byte)] >= 0 {
                    ids.append(byteTokens[Int(byte)])
                }
            }
        }
        queue.trim()
    }

    // MARK: Pieces of a tokenizer.json

    /// Appends the tokens of a piece of normalized text. Symbols that are no token become what the file says for them, and
    /// those that become nothing let their neighbours merge, as Hugging Face's tokenizers do it.
    func encodePiece(
        _ text: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>, _ scratch: BytePairScratch, into ids: inout [Int32],
        _ meter: inout WorkMeter
    ) throws(CancellationError) {
        guard let key = BytePairScratch.key(text, piece) else {
            return try encodeSymbols(text, piece, scratch, into: &ids, &meter)
        }
        if scratch.recall(key, into: &ids) { return }
        let first = ids.count
        try encodeSymbols(text, piece, scratch, into: &ids, &meter)
        scratch.remember(key, ids[first...])
    }

    private func encodeSymbols(
        _ text: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>, _ scratch: BytePairScratch, into ids: inout [Int32],
        _ meter: inout WorkMeter
    ) throws(CancellationError) {
        if ignoresMerges, piece.count <= Self.wholeLimit, let id = vocabulary.id(Array(text[piece])) {
            return ids.append(id)
        }
        var start = piece.lowerBound
        while start < piece.upperBound {
            let limit = min(start + MergeQueue.pieceLimit, piece.upperBound)
            let stop = UTF8Text.boundary(text, from: limit, end: piece.upperBound)
            let symbols = symbols(text, start..<stop)
            try meter.add(stop - start)
            if symbols.count <= BytePairScratch.symbolLimit {
                scratch.begin()
                for symbol in symbols { scratch.append(symbol) }
                try meter.add(scratch.merge(merges))
                for index in 0..<scratch.count { ids.append(scratch[index]) }
            } else {
                try encodeMany(symbols, into: &ids, &meter)
            }
            start = stop
        }
    }

    /// The tokens that a piece begins as.
    private func symbols(_ text: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>) -> [Int32] {
        var symbols: [Int32] = []
        symbols.reserveCapacity(piece.count)
        var at = piece.lowerBound
        var pending: Int32?
        forEachSymbol(text, piece) { length, token in
            if token >= 0 {
                if let unknown = pending { symbols.append(unknown) }
                pending = nil
                symbols.append(token)
            } else if !unknown.spell(text[at..<at + length], into: &symbols), let token = unknown.token {
                if let before = pending, !unknown.isFused { symbols.append(before) }
                pending = token
            }
            at += length
        }
        if let pending { symbols.append(pending) }
        return symbols
    }

    private func encodeMany(
        _ symbols: [Int32], into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        var queue = MergeQueue()
        queue.begin(bytes: symbols.count)
        for symbol in symbols { queue.append(length: 1, token: symbol) }
        try queue.run(&meter) { _, left, right in
            merges.merge(left.token, right.token).map { (Float($0.rank), $0.token) }
        }
        queue.trimCandidates()
        for symbol in queue.symbols where symbol.length > 0 { ids.append(symbol.token) }
    }
}

/// What byte-pair encoding makes of characters that are no token, where a tokenizer.json says so.
struct UnknownSymbols: Sendable {
    /// Nothing stands for them where this is nil.
    let token: Int32?
    /// Those in a row are one.
    let isFused: Bool
    private let byteTokens: [Int32]

    init(_ metadata: Metadata, _ vocabulary: Vocabulary, byteTokens: [Int32]?) {
        let id = metadata.integer("tokenizer.ggml.unknown_token_id").flatMap(Int32.init(exactly:))
        token = id.flatMap { $0 >= 0 && $0 < vocabulary.count ? $0 : nil }
        isFused = metadata.bool("tokenizer.ebb.fuses_unknown") ?? false
        self.byteTokens = byteTokens ?? []
    }

    /// Appends a token for each byte where all have one.
    func spell(_ bytes: Slice<UnsafeBufferPointer<UInt8>>, into symbols: inout [Int32]) -> Bool {
        guard !byteTokens.isEmpty, bytes.allSatisfy({ byteTokens[Int($0)] >= 0 }) else { return false }
        for byte in bytes { symbols.append(byteTokens[Int(byte)]) }
        return true
    }
}
