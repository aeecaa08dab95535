import ModelFormat

/// Text to tokens and back, from a model's own metadata (GGUF's `tokenizer.ggml.*`).
public struct Tokenizer: Sendable {
    private enum Model: Sendable {
        case bytePair(BytePairEncoder)
        case sentencePiece(SentencePieceEncoder)
        case unigram(UnigramEncoder)
        case wordPiece(WordPieceEncoder)
    }

    private let vocabulary: Vocabulary
    private let model: Model
    private let special: SpecialTokens
    private let flags: AddedTokenFlags
    private let addsBOS: Bool
    private let addsEOS: Bool
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
            while let first = trusted.first, first.upperBound <= range.lowerBound { trusted.removeFirst() }
            if let first = trusted.first, first.lowerBound <= range.lowerBound, range.upperBound <= first.upperBound {
                return true
            }
            guard isFoundAlways(id) else { return false }
            if marks == nil { marks = try marked(text.marks, &meter) }
            return marks?.contains(id) == false
        }
        return ids
    }

    /// The tokens that a template's source has, white space apart: that is in every source.
    private func marked(_ source: String, _ meter: inout WorkMeter) throws(CancellationError) -> Set<Int32> {
        try special.all(in: Array(source.utf8), &meter).filter { id in !vocabulary.bytes(id).allSatisfy { $0 <= 0x20 } }
    }

    /// Bytes of memory that encoding a text takes at most, its tokens included and the text itself not.
    public static func workingBytes(forUTF8Count count: Int) -> Int {
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
        try encode(bytes, into: &ids, &meter) { id, _, _ in parseSpecial || isFoundAlways(id) }
        if addSpecial, addsEOS, let eos { ids.append(eos) }
        return ids
    }

    /// Appends the special tokens that are accepted where they stand, and the tokens of what lies between them.
    private func encode(
        _ bytes: [UInt8], into ids: inout [Int32], _ meter: inout WorkMeter, accepts: SpecialTokens.Acceptance
    ) throws(CancellationError) {
        var scratch: BytePairScratch?
        var start = 0
        while start < bytes.count {
            let found = try nextSpecial(bytes, start, &meter, accepts: accepts)
            let end = found?.range.lowerBound ?? bytes.count
            if start < end { try encodePlain(bytes, start..<end, &scratch, into: &ids, &meter) }
            // A text that begins with BOS itself gets no second one.
            if start == 0, end == 0, ids.first == bos, let token = found?.token, token == bos, !isWordPiece {
                ids.removeAll(keepingCapacity: true)
            }
            if let found { ids.append(found.token) }
            start = found?.range.upperBound ?? bytes.count
        }
    }

    /// The next special token, with the white space that belongs to it.
    private func nextSpecial(
        _ bytes: [UInt8], _ start: Int, _ meter: inout WorkMeter, accepts: SpecialTokens.Acceptance
    ) throws(CancellationError) -> (token: Int32, range: Range<Int>)? {
        var at = start
        while let found = try special.next(in: bytes, from: at, &meter, accepts: accepts) {
            let flags = flags[found.token]
            if flags.contains(.isWord), AddedTokenFlags.touchesWord(bytes, found.range) {
                at = found.range.lowerBound + 1
                continue
            }
            var (first, last) = (found.range.lowerBound, found.range.upperBound)
            if flags.contains(.takesSpaceBefore) { first = AddedTokenFlags.spaceStart(bytes, first, least: start) }
            if flags.contains(.takesSpaceAfter) { last = AddedTokenFlags.spaceEnd(bytes, last) }
            return (found.token, first..<last)
        }
        return nil
    }

    private var isWordPiece: Bool { if case .wordPiece = model { true } else { false } }

    private func encodePlain(
        _ bytes: [UInt8], _ range: Range<Int>, _ scratch: inout BytePairScratch?, into ids: inout [Int32],
        _ meter: inout WorkMeter
    ) throws(CancellationError) {
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

    /// The bytes that a token adds to a text: possibly a part of a character. Control tokens add nothing unless
    /// `special` asks for their names.
    public func bytes(of id: Int32, special: Bool = false) -> [UInt8] {
        guard id >= 0, id < vocabulary.count else { return [] }
        if endOfGeneration.contains(id), !special { return [] }
        switch vocabulary.kind(id) {
        case .control, .unknown: return special ? vocabulary.bytes(id) : []
        case .byte, .undefined, .unused, .normal, .userDefined: break
        }
        let bytes = vocabulary.bytes(id)
        if case .wordPiece(let encoder) = model { return encoder.bytes(ofToken: bytes) }
        return spellsSpaces && vocabulary.kind(id) != .byte ? Self.withSpaces(bytes) : bytes
    }

    /// The name of a token that is not printed (`<|im_start|>`), for whoever looks for it in a model's output; nil for
    /// tokens that are printed.
    public func hiddenText(of id: Int32) -> String? {
        guard id >= 0, id < vocabulary.count, bytes(of: id).isEmpty else { return nil }
        let name = bytes(of: id, special: true)
        return name.isEmpty ? nil : String(decoding: name, as: UTF8.self)
    }

    /// Whether tokens have U+2581 for a space.
    private var spellsSpaces: Bool {
        switch model {
        case .bytePair(let encoder): encoder.isText
        case .sentencePiece, .unigram: true
        case .wordPiece: false
        }
    }

    private static func withSpaces(_ bytes: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        var at = 0
        while at < bytes.count {
            if bytes[at...].starts(with: SentencePieceEncoder.space) {
                out.append(0x20)
                at += 3
            } else {
                out.append(bytes[at])
                at += 1
            }
        }
        return out
    }

    /// Whether a text's first space is one that encoding has added.
    var addsFirstSpace: Bool {
        switch model {
        case .bytePair: false
        case .sentencePiece(let encoder): encoder.addsSpacePrefix
        case .unigram(let encoder): encoder.addsSpacePrefix
        case .wordPiece: true
        }
    }

    /// The text of tokens; bytes that are no UTF-8 become U+FFFD. The tokens are a whole text: the space that encoding puts
    /// before a text is taken off again.
    public func decode(_ ids: some Sequence<Int32>, special: Bool = false) -> String {
        let text = ids.flatMap { bytes(of: $0, special: special) }
        return String(decoding: addsFirstSpace && text.first == 0x20 ? text.dropFirst() : text[...], as: UTF8.self)
    }

    /// Bytes of UTF-8 that the text of tokens has at most, without making it.
    public func byteCount(of ids: some Sequence<Int32>) -> Int {
        // A byte that is no UTF-8 becomes three; so does the mark of a space, which becomes one.
        ids.reduce(0) { $0 + 3 * (vocabulary.byteCount($1) + 1) }
    }
}
