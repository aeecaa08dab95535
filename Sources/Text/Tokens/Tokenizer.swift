import ModelFormat

/// Text to tokens and back, from a model's own metadata (GGUF's `tokenizer.ggml.*`).
public struct Tokenizer: Sendable {
    private enum Model: Sendable {
        case bytePair(BytePairEncoder)
        case sentencePiece(SentencePieceEncoder)
        case wordPiece(WordPieceEncoder)
    }

    private let vocabulary: Vocabulary
    private let model: Model
    private let special: SpecialTokens
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
        case "gpt2": model = .bytePair(try BytePairEncoder(metadata, vocabulary: vocabulary))
        case "llama": model = .sentencePiece(try SentencePieceEncoder(metadata, vocabulary: vocabulary))
        case "wordpiece": model = .wordPiece(try WordPieceEncoder(metadata, vocabulary: vocabulary))
        case let other:
            throw TextError(
                "the tokenizer model \"\(other ?? "none")\" is not supported (gpt2, llama and wordpiece are)")
        }
        let count = vocabulary.count
        func token(_ key: String) -> Int32? {
            metadata.integer("tokenizer.ggml.\(key)").flatMap { (0..<count).contains($0) ? Int32($0) : nil }
        }
        bos = token("bos_token_id")
        eos = token("eos_token_id")
        let isSentencePiece = metadata.string("tokenizer.ggml.model") == "llama"
        addsBOS = metadata.bool("tokenizer.ggml.add_bos_token") ?? isSentencePiece
        addsEOS = metadata.bool("tokenizer.ggml.add_eos_token") ?? false
        endOfGeneration = Self.endTokens(vocabulary, [eos, token("eot_token_id"), token("eom_token_id")])
        special = SpecialTokens(vocabulary)
    }

    /// Whether a special token is found in every text, not only where the caller asks for special tokens.
    private func isFoundAlways(_ id: Int32) -> Bool {
        // Encoders' tokenizers know their special tokens always (Hugging Face tokenizers, added tokens).
        if case .wordPiece = model { return vocabulary.kind(id) != .userDefined || !endOfGeneration.contains(id) }
        // What ends a turn is a control token, also where a file calls it user-defined (Gemma's </s>).
        return vocabulary.kind(id) == .userDefined && !endOfGeneration.contains(id)
    }

    /// Chat models end a turn with one of these, whatever their metadata calls the end.
    private static func endTokens(_ vocabulary: Vocabulary, _ named: [Int32?]) -> Set<Int32> {
        let texts = [
            "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>", "<|end_of_text|>", "<|end|>", "</s>",
        ]
        var found = Set(named.compactMap { $0 })
        for text in texts {
            guard let id = vocabulary.id(Array(text.utf8)) else { continue }
            if [.control, .userDefined].contains(vocabulary.kind(id)) { found.insert(id) }
        }
        return found
    }

    /// - Parameters:
    ///   - addSpecial: put the tokens before and after that the model wants (BOS, EOS).
    ///   - parseSpecial: control tokens written out in the text (`<|im_start|>`) become those tokens.
    public func encode(_ text: String, addSpecial: Bool, parseSpecial: Bool) -> [Int32] {
        var ids: [Int32] = []
        if addSpecial, addsBOS, let bos { ids.append(bos) }
        let bytes = Array(text.utf8)
        var first = true
        for part in special.cut(bytes, accepts: { parseSpecial || isFoundAlways($0) }) {
            switch part {
            case .token(let id): ids.append(id)
            case .text(let range):
                encodePlain(Substring(decoding: bytes[range], as: UTF8.self), first: first, into: &ids)
            }
            first = false
        }
        if addSpecial, addsEOS, let eos { ids.append(eos) }
        return ids
    }

    private func encodePlain(_ text: Substring, first: Bool, into ids: inout [Int32]) {
        switch model {
        case .bytePair(let encoder): encoder.encode(text, into: &ids)
        case .sentencePiece(let encoder): encoder.encode(text, first: first, into: &ids)
        case .wordPiece(let encoder): encoder.encode(text, into: &ids)
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
        if case .wordPiece = model {
            return bytes.starts(with: WordPieceEncoder.continuation) ? Array(bytes.dropFirst(2)) : [0x20] + bytes
        }
        guard case .sentencePiece = model, vocabulary.kind(id) != .byte else { return bytes }
        return Self.withSpaces(bytes)
    }

    /// The name of a token that is not printed (`<|im_start|>`), for whoever looks for it in a model's output; nil for
    /// tokens that are printed.
    public func hiddenText(of id: Int32) -> String? {
        guard id >= 0, id < vocabulary.count, bytes(of: id).isEmpty else { return nil }
        let name = bytes(of: id, special: true)
        return name.isEmpty ? nil : String(decoding: name, as: UTF8.self)
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

    /// The text of tokens; bytes that are no UTF-8 become U+FFFD.
    public func decode(_ ids: some Sequence<Int32>, special: Bool = false) -> String {
        let text = String(decoding: ids.flatMap { bytes(of: $0, special: special) }, as: UTF8.self)
        if case .wordPiece = model, text.first == " " { return String(text.dropFirst()) }
        return text
    }
}
