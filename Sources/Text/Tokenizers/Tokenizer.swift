import ModelFormat

/// Text to tokens and back, from a model's own metadata (GGUF's `tokenizer.ggml.*`).
public struct Tokenizer: Sendable {
    enum Model: Sendable {
        case bytePair(BytePairEncoder)
        case sentencePiece(SentencePieceEncoder)
        case unigram(UnigramEncoder)
        case wordPiece(WordPieceEncoder)
    }

    let vocabulary: Vocabulary
    let model: Model
    private let special: SpecialTokens
    private let flags: AddedTokenFlags
    /// What a tokenizer.json does to text before its model, where the model's encoder does not do it itself.
    private let steps: TextSteps?
    private let normalized: NormalizedTokens?
    let decoding: Decoding
    private let addsBOS: Bool
    /// Whether `eos` stands behind a text with its special tokens.
    public let addsEOS: Bool
    public let bos: Int32?
    public let eos: Int32?
    /// Tokens that end a generation.
    public let endOfGeneration: Set<Int32>

    public var vocabularySize: Int { vocabulary.count }

    /// - Throws: ``TextError`` where the tokenizer is of an unsupported kind, `FormatError` where its parts contradict each other.
    public init(_ metadata: Metadata) throws {
        vocabulary = try Vocabulary(metadata)
        switch metadata.string("tokenizer.ggml.model") {
        case "gpt2", "gemma4": model = .bytePair(try BytePairEncoder(metadata, vocabulary: vocabulary))
        case "llama": model = .sentencePiece(try SentencePieceEncoder(metadata, vocabulary: vocabulary))
        case "t5": model = .unigram(try UnigramEncoder(metadata, vocabulary: vocabulary))
        case "wordpiece", "bert": model = .wordPiece(try WordPieceEncoder(metadata, vocabulary: vocabulary))
        case let other:
            throw TextError(
                "the tokenizer model \"\(other ?? "none")\" is not supported (gpt2, gemma4, llama, t5, bert and wordpiece are)"
            )
        }
        let rules = TextEnds(metadata, vocabulary)
        (bos, eos) = (rules.first, rules.last)
        addsBOS = metadata.bool("tokenizer.ggml.add_bos_token") ?? Self.addsBOS(model, metadata)
        addsEOS = metadata.bool("tokenizer.ggml.add_eos_token") ?? rules.addsLast
        endOfGeneration = rules.endOfGeneration
        special = SpecialTokens(vocabulary)
        flags = AddedTokenFlags(metadata, vocabulary)
        let steps = try TextSteps(metadata)
        self.steps = steps
        normalized = steps == nil ? nil : try NormalizedTokens(flags, vocabulary, steps?.normalizer)
        decoding = Decoding(metadata)
    }

    private static func addsBOS(_ model: Model, _ metadata: Metadata) -> Bool {
        switch model {
        case .bytePair(let encoder): encoder.addsBOS
        case .sentencePiece: true
        case .unigram: false
        case .wordPiece: metadata.string("tokenizer.ggml.model") == "bert"
        }
    }

    /// Whether a special token is found in every text, not only where the caller asks for special tokens.
    private func isFoundAlways(_ id: Int32) -> Bool {
        // Encoders' tokenizers know their special tokens always (Hugging Face tokenizers, added tokens).
        if isWordPiece { return vocabulary.kind(id) != .userDefined || !endOfGeneration.contains(id) }
        // What ends a turn is a control token, also where a file calls it user-defined (Gemma's </s>).
        return vocabulary.kind(id) == .userDefined && !endOfGeneration.contains(id)
    }

    /// - Parameters:
    ///   - addSpecial: put the tokens before and after that the model wants (BOS, EOS). A text that begins with BOS itself gets
    ///     no second one. False for a chat template's text, which writes what the model wants.
    ///   - parseSpecial: control tokens written out in the text (`<|im_start|>`) become those tokens.
    public func encode(_ text: String, addSpecial: Bool, parseSpecial: Bool) -> [Int32] {
        (try? encode(text, addSpecial: addSpecial, parseSpecial: parseSpecial) { false }) ?? []
    }

    /// The same for someone who may go away: asks `isCancelled` after every few KB, and takes at most
    /// ``workingBytes(forUTF8Count:)`` of memory. Time grows with n log n for n bytes.
    public func encode(
        _ text: String, addSpecial: Bool, parseSpecial: Bool, isCancelled: () -> Bool
    ) throws(CancellationError) -> [Int32] {
        try withoutActuallyEscaping(isCancelled) { isCancelled throws(CancellationError) in
            var meter = WorkMeter(isCancelled: isCancelled)
            return try encode(text, addSpecial: addSpecial, parseSpecial: parseSpecial, &meter)
        }
    }

    /// Encodes a rendered conversation: control tokens are found only where its template wrote them, so that what a user
    /// writes cannot open a turn. Everything else is as if the text were encoded in one.
    public func encode(_ text: MarkedText, isCancelled: () -> Bool = { false }) throws(CancellationError) -> [Int32] {
        try withoutActuallyEscaping(isCancelled) { isCancelled throws(CancellationError) in
            var meter = WorkMeter(isCancelled: isCancelled)
            return try encode(text, &meter)
        }
    }

    private func encode(_ text: MarkedText, _ meter: inout WorkMeter) throws(CancellationError) -> [Int32] {
        let bytes = Array(text.text.utf8)
        // The template's own words, known once a token is found in what it did not write.
        var marks: Set<Int32>?
        var ids: [Int32] = []
        ids.reserveCapacity(bytes.count / 2 + 2)
        var trusted = text.trusted[...]
        try encode(bytes, into: &ids, &meter) { id, range, meter throws(CancellationError) in
            if let range {
                while let first = trusted.first, first.upperBound <= range.lowerBound { trusted.removeFirst() }
                if let first = trusted.first, first.lowerBound <= range.lowerBound, range.upperBound <= first.upperBound
                {
                    return true
                }
            }
            guard isFoundAlways(id), isNormalized(id) == (range == nil) else { return false }
            // Nor can whoever writes make the template's tokens by what normalizing does to a text.
            if marks == nil { marks = try marked(text, bytes, &meter) }
            return marks?.contains(id) == false
        }
        return ids
    }

    /// The tokens that a template's source has, or that it has written, put together, into this prompt; white space apart:
    /// that is in every source.
    private func marked(
        _ text: MarkedText, _ bytes: [UInt8], _ meter: inout WorkMeter
    ) throws(CancellationError) -> Set<Int32> {
        var found = try special.all(in: Array(text.marks.utf8), &meter)
        for range in text.trusted {
            found.formUnion(try special.all(in: Array(bytes[range.clamped(to: bytes.indices)]), &meter))
        }
        return found.filter { id in !vocabulary.bytes(id).allSatisfy { $0 <= 0x20 } }
    }

    /// Bytes of memory that encoding a text takes at most, its tokens included and the text itself not.
    public func workingBytes(forUTF8Count count: Int) -> Int {
        let own = Self.ownBytes(forUTF8Count: count)
        guard let steps else { return own }
        // A text that steps make longer is there twice, once as scalars, and may be a piece a byte, in old pieces and new ones.
        let normalized = Double(min(max(count, 0), Int.max >> 16)) * steps.growth
        return own + Int(normalized) * 48 + MergeQueue.bytesPerByte * min(Int(normalized), MergeQueue.pieceLimit)
    }

    private static func ownBytes(forUTF8Count count: Int) -> Int {
        // Composing makes at most three bytes of one. Each may be a token (4 bytes, while the array grows 6); the text is
        // there as an array and composed; besides comes the merging of one piece, and what its pattern has tried in vain.
        let count = min(max(count, 0), Int.max / 64)
        return count * 36 + MergeQueue.bytesPerByte * min(3 * count, MergeQueue.pieceLimit) + (1 << 16)
            + (count >= BytePairScratch.rememberedText ? BytePairScratch.byteCount : 0)
    }

    private func encode(
        _ text: String, addSpecial: Bool, parseSpecial: Bool, _ meter: inout WorkMeter
    ) throws(CancellationError) -> [Int32] {
        let bytes = Array(text.utf8)
        var ids: [Int32] = []
        ids.reserveCapacity(bytes.count / 2 + 2)
        if addSpecial, addsBOS, let bos { ids.append(bos) }
        try encode(bytes, into: &ids, &meter) { id, range, _ in
            (parseSpecial || isFoundAlways(id)) && isNormalized(id) == (range == nil)
        }
        if addSpecial, addsEOS, let eos { ids.append(eos) }
        return ids
    }

    /// Whether a special token is wanted where it stands; it has no place where it is found in normalized text.
    private typealias Acceptance = (Int32, Range<Int>?, inout WorkMeter) throws(CancellationError) -> Bool

    /// Appends the special tokens that are accepted where they stand, and the tokens of what lies between them.
    private func encode(
        _ bytes: [UInt8], into ids: inout [Int32], _ meter: inout WorkMeter, accepts: Acceptance
    ) throws(CancellationError) {
        var scratch: BytePairScratch?
        var start = 0
        while start < bytes.count {
            let found = try nextSpecial(bytes, start, &meter, accepts: accepts)
            let end = found?.range.lowerBound ?? bytes.count
            if start < end { try encodePlain(bytes, start..<end, &scratch, into: &ids, &meter, accepts: accepts) }
            // A text that begins with BOS itself gets no second one.
            if start == 0, end == 0, ids.first == bos, let token = found?.token, token == bos, !isWordPiece {
                ids.removeAll(keepingCapacity: true)
            }
            if let found { ids.append(found.token) }
            start = found?.range.upperBound ?? bytes.count
        }
    }

    /// The next special token, with the white space that belongs to it.
    /// - Parameter tokens: those that are looked for, where the text is normalized.
    private func nextSpecial(
        _ bytes: [UInt8], _ start: Int, _ meter: inout WorkMeter, of tokens: NormalizedTokens? = nil,
        accepts: Acceptance
    ) throws(CancellationError) -> (token: Int32, range: Range<Int>)? {
        var at = start
        func id(_ found: Int32) -> Int32 { tokens?.id(found) ?? found }
        while let found = try (tokens?.finder ?? special).next(
            in: bytes, from: at, &meter,
            accepts: { found, range, meter throws(CancellationError) in
                try accepts(id(found), tokens == nil ? range : nil, &meter)
            })
        {
            let token = id(found.token)
            let flags = flags[token]
            if flags.contains(.isWord), AddedTokenFlags.touchesWord(bytes, found.range) {
                at = found.range.lowerBound + 1
                continue
            }
            var (first, last) = (found.range.lowerBound, found.range.upperBound)
            if flags.contains(.takesSpaceBefore) { first = AddedTokenFlags.spaceStart(bytes, first, least: start) }
            if flags.contains(.takesSpaceAfter) { last = AddedTokenFlags.spaceEnd(bytes, last) }
            return (token, first..<last)
        }
        return nil
    }

    private func isNormalized(_ id: Int32) -> Bool { normalized != nil && flags[id].contains(.isNormalized) }

    private var isWordPiece: Bool { if case .wordPiece = model { true } else { false } }

    private func encodePlain(
        _ bytes: [UInt8], _ range: Range<Int>, _ scratch: inout BytePairScratch?, into ids: inout [Int32],
        _ meter: inout WorkMeter, accepts: Acceptance
    ) throws(CancellationError) {
        if let steps {
            return try encode(bytes, range, steps, &scratch, into: &ids, &meter, accepts: accepts)
        }
        switch model {
        case .bytePair(let encoder):
            let used = scratch ?? encoder.scratch(forUTF8Count: bytes.count)
            scratch = used
            try encoder.encode(bytes, range, used, into: &ids, &meter)
        case .sentencePiece(let encoder): try encoder.encode(bytes, range, into: &ids, &meter)
        case .unigram(let encoder): try encoder.encode(bytes, range, into: &ids, &meter)
        case .wordPiece(let encoder): try encoder.encode(bytes, range, into: &ids, &meter)
        }
    }

    /// Encodes a part of a text that a tokenizer.json's steps come before: normalized, and with the tokens that are looked for
    /// in normalized text.
    private func encode(
        _ bytes: [UInt8], _ range: Range<Int>, _ steps: TextSteps, _ scratch: inout BytePairScratch?,
        into ids: inout [Int32], _ meter: inout WorkMeter, accepts: Acceptance
    ) throws(CancellationError) {
        var isStart = range.lowerBound == 0
        let text = try steps.normalizer.normalize(bytes[range], &meter, keepsStart: &isStart)
        var start = 0
        while start < text.count {
            let found =
                normalized == nil ? nil : try nextSpecial(text, start, &meter, of: normalized, accepts: accepts)
            let end = found?.range.lowerBound ?? text.count
            let plain = start == 0 && end == text.count ? text : Array(text[start..<end])
            let pieces = try steps.splitter.pieces(plain, isFirst: isStart && start == 0, &meter)
            try encode(pieces, &scratch, into: &ids, &meter)
            if let found { ids.append(found.token) }
            start = found?.range.upperBound ?? text.count
        }
    }

    private func encode(
        _ pieces: TextSplitter.Pieces, _ scratch: inout BytePairScratch?, into ids: inout [Int32],
        _ meter: inout WorkMeter
    ) throws(CancellationError) {
        var used = scratch
        try pieces.text.withUnsafeBufferPointer { text throws(CancellationError) in
            switch model {
            case .bytePair(let encoder):
                let own = used ?? encoder.scratch(forUTF8Count: text.count)
                used = own
                for piece in pieces.ranges { try encoder.encodePiece(text, piece, own, into: &ids, &meter) }
            case .unigram(let encoder):
                for piece in pieces.ranges { try encoder.encodePiece(text, piece, into: &ids, &meter) }
            case .wordPiece(let encoder):
                let longest = encoder.longestToken
                for piece in pieces.ranges {
                    try encoder.encodePiece(text, piece, longestToken: longest, into: &ids, &meter)
                }
            case .sentencePiece: break
            }
        }
        scratch = used
    }
}
