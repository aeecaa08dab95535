/// The added tokens of a tokenizer.json: which ids they have, and how each is found in text.
public struct AddedTokens: Sendable {
    struct Token: Sendable {
        /// What errors call it.
        let what: String
        let id: Int
        let text: String
        let isSpecial: Bool
        let flags: UInt8
    }

    /// White space before or after the token belongs to it; it is found as a word of its own only.
    public static let (takesSpaceBefore, takesSpaceAfter, isWord): (UInt8, UInt8, UInt8) = (1, 2, 4)
    /// The token, itself normalized, is looked for in text that has been normalized.
    public static let isNormalized: UInt8 = 8

    private(set) var tokens: [Token] = []

    /// Whether some are looked for in normalized text.
    var hasNormalized: Bool { tokens.contains { $0.flags & Self.isNormalized != 0 } }

    /// - Parameters:
    ///   - isNormalized: text is normalized at all.
    ///   - rows: the embedding's, 0 where they are not known. A special token that has none, as Gemma's for a part of a
    ///     picture, is no token of this model.
    init(_ file: JSONMembers, isNormalized: Bool, rows: Int = 0) throws {
        guard let node = file["added_tokens"], !node.isNull else { return }
        guard let list = node.array else { throw file.refusal("added_tokens", "is no list") }
        for (index, node) in list.enumerated() {
            let added = JSONMembers("\(file.what): added_tokens[\(index)]", node.object ?? JSONObject())
            try added.allow(["id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"])
            guard let id = try added.int("id"), id >= 0, let text = try added.string("content"), !text.isEmpty else {
                throw added.refusal("id", "or content is missing or impossible")
            }
            var flags: UInt8 = 0
            if try added.bool("lstrip") == true { flags |= Self.takesSpaceBefore }
            if try added.bool("rstrip") == true { flags |= Self.takesSpaceAfter }
            if try added.bool("single_word") == true { flags |= Self.isWord }
            // Files say all of this; what one leaves out is as most tokens have it.
            let isSpecial = try added.bool("special") ?? true
            let wantsNormalized = try added.bool("normalized") ?? !isSpecial
            if isNormalized, wantsNormalized { flags |= Self.isNormalized }
            if rows > 0, id >= rows, isSpecial { continue }
            tokens.append(Token(what: added.what, id: id, text: text, isSpecial: isSpecial, flags: flags))
        }
    }

    /// Puts the tokens into a vocabulary; those that it lacks follow it.
    func add(to tokens: inout [String], _ kinds: inout [Vocabulary.Kind]) throws {
        for token in self.tokens.sorted(by: { $0.id < $1.id }) {
            if token.id == tokens.count {
                tokens.append(token.text)
                kinds.append(.normal)
            }
            guard token.id < tokens.count, tokens[token.id] == token.text else {
                throw FormatError("\(token.what): id \(token.id) is not that of \(token.text) in the vocabulary")
            }
            kinds[token.id] = token.isSpecial ? .control : .userDefined
        }
    }

    /// Under this key a container has the flags: an id, its flags, and so on.
    public static let flagsKey = "tokenizer.ebb.added_flags"

    func encode(into metadata: inout MetadataEncoder) {
        let flags = tokens.filter { $0.flags != 0 }.flatMap { [Int32(clamping: $0.id), Int32($0.flags)] }
        if !flags.isEmpty { metadata.set(Self.flagsKey, flags) }
    }
}
