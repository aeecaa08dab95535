import ModelFormat

// Tokens to text.
extension Tokenizer {
    /// How a tokenizer.json makes text of tokens, where it says so.
    struct Decoding: Sendable {
        let spellsSpaces: Bool?
        let dropsFirstSpace: Bool?

        init(_ metadata: Metadata) {
            spellsSpaces = metadata.bool("tokenizer.ebb.spells_spaces")
            dropsFirstSpace = metadata.bool("tokenizer.ebb.drops_first_space")
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
        if let known = decoding.spellsSpaces { return known }
        return switch model {
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
        if case .wordPiece = model { return true }
        if let known = decoding.dropsFirstSpace { return known }
        return switch model {
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
