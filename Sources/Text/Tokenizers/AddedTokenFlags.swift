import ModelFormat

/// How special tokens are found in text where that is out of the ordinary: with the white space beside them, or as words of
/// their own only.
struct AddedTokenFlags: Sendable {
    struct Flags: OptionSet {
        let rawValue: UInt8
        static let takesSpaceBefore = Flags(rawValue: AddedTokens.takesSpaceBefore)
        static let takesSpaceAfter = Flags(rawValue: AddedTokens.takesSpaceAfter)
        static let isWord = Flags(rawValue: AddedTokens.isWord)
        static let isNormalized = Flags(rawValue: AddedTokens.isNormalized)
    }

    private var flags: [Int32: UInt8] = [:]

    init(_ metadata: Metadata, _ vocabulary: Vocabulary) {
        if let numbers = metadata.array(AddedTokens.flagsKey)?.integers() {
            for at in stride(from: 0, to: numbers.count - 1, by: 2) {
                flags[Int32(clamping: numbers[at])] = UInt8(truncatingIfNeeded: numbers[at + 1])
            }
        }
        addByName(metadata, vocabulary)
    }

    /// GGUF has no place for them, so llama.cpp tells models by their names; so do we.
    private mutating func addByName(_ metadata: Metadata, _ vocabulary: Vocabulary) {
        let pre = metadata.string("tokenizer.ggml.pre") ?? ""
        let architecture = metadata.string("general.architecture") ?? ""
        let name = metadata.string("general.name")?.lowercased() ?? ""
        func add(_ text: String, _ flag: UInt8) {
            if let id = vocabulary.id(Array(text.utf8)) { flags[id] = flag }
        }
        if ["jina-v2-de", "jina-v2-es", "jina-v2-code"].contains(pre)
            || ["nomic-bert-moe", "jina-bert-v3"].contains(architecture)
        {
            add("<mask>", AddedTokens.takesSpaceBefore)
        } else if name.contains("phi-3") || name.contains("phi3") {
            for at in 0..<vocabulary.special.count {
                flags[vocabulary.special[at]] = AddedTokens.takesSpaceAfter
            }
            for text in ["<unk>", "<s>", "<|endoftext|>"] { add(text, 0) }
        } else if name.contains("modern-bert") {
            add("[MASK]", AddedTokens.takesSpaceBefore)
        }
    }

    /// The tokens that are looked for in normalized text.
    var normalized: [Int32] { flags.keys.filter { self[$0].contains(.isNormalized) }.sorted() }

    subscript(id: Int32) -> Flags { flags.isEmpty ? [] : Flags(rawValue: flags[id] ?? 0) }

    /// Whether letters, digits or marks stand right beside a part of a text.
    static func touchesWord(_ bytes: [UInt8], _ range: Range<Int>) -> Bool {
        if range.upperBound < bytes.count, isWord(UTF8Text.scalar(bytes, range.upperBound).scalar) { return true }
        guard range.lowerBound > 0 else { return false }
        return isWord(UTF8Text.scalar(bytes, start(bytes, before: range.lowerBound)).scalar)
    }

    /// Where the white space before a place begins, at `least` at the earliest.
    static func spaceStart(_ bytes: [UInt8], _ at: Int, least: Int) -> Int {
        var at = at
        while at > least {
            let before = max(least, start(bytes, before: at))
            guard UTF8Text.scalar(bytes, before).scalar.properties.isWhitespace else { break }
            at = before
        }
        return at
    }

    /// Where the white space from a place on ends.
    static func spaceEnd(_ bytes: [UInt8], _ at: Int) -> Int {
        var at = at
        while at < bytes.count {
            let (scalar, next) = UTF8Text.scalar(bytes, at)
            guard scalar.properties.isWhitespace else { break }
            at = next
        }
        return at
    }

    private static func start(_ bytes: [UInt8], before at: Int) -> Int {
        var start = at - 1
        while start > 0, bytes[start] & 0xc0 == 0x80, at - start < 4 { start -= 1 }
        return start
    }

    private static func isWord(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .decimalNumber, .connectorPunctuation, .nonspacingMark, .spacingMark, .enclosingMark: true
        default: scalar.properties.isAlphabetic
        }
    }
}
