/// How a tokenizer.json makes text of tokens. Tokens' bytes and their order say most of it; what is left is whether U+2581
/// is a space, and whether the first space is one that encoding has added.
struct DecoderJSON: Sendable {
    private let spellsSpaces: Bool
    private let dropsFirstSpace: Bool

    init(_ file: JSONMembers, marksSpaces: Bool) throws {
        guard let decoder = try file.members("decoder") else {
            (spellsSpaces, dropsFirstSpace) = (marksSpaces, false)
            return
        }
        var (spells, drops) = (false, false)
        for step in try JSONMembers.sequence(decoder, "decoders") {
            switch try step.string("type") {
            // Bytes are bytes here as it is; pieces follow each other; the marks of words are the model's.
            case "ByteLevel", "ByteFallback", "Fuse", "WordPiece": break
            case "Metaspace":
                spells = true
                let scheme = try step.string("prepend_scheme")
                drops = try scheme.map { $0 != "never" } ?? step.bool("add_prefix_space") ?? true
            case "Replace":
                guard try step.members("pattern")?.string("String") == "\u{2581}", try step.string("content") == " "
                else { throw step.refusal("pattern", "does not make spaces of U+2581, which is not supported") }
                spells = true
            case "Strip":
                guard try step.string("content") == " ", try step.int("start") ?? 0 <= 1, try step.int("stop") ?? 0 == 0
                else { throw step.refusal("content", "is not one space at the start, which is not supported") }
                drops = try step.int("start") == 1
            case let type: throw step.refusal("type", "is \"\(type ?? "none")\", which is not supported")
            }
        }
        (spellsSpaces, dropsFirstSpace) = (spells, drops)
    }

    func encode(into metadata: inout MetadataEncoder) {
        metadata.set("tokenizer.ebb.spells_spaces", spellsSpaces)
        metadata.set("tokenizer.ebb.drops_first_space", dropsFirstSpace)
    }
}
