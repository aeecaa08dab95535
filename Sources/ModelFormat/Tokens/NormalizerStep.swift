/// A step of an encoder's normalizer, by the name that the container has for it.
public enum NormalizerStep: String, Sendable {
    /// White space becomes a space, control characters go (`clean_text` of Hugging Face's BertNormalizer).
    case cleanText = "clean_text"
    /// A space before and after each CJK ideograph (`handle_chinese_chars`).
    case separateIdeographs = "separate_ideographs"
    /// Unicode's form NFD.
    case decompose = "nfd"
    /// Unicode's form NFC.
    case compose = "nfc"
    /// Nonspacing marks go (with `nfd` before it: `strip_accents` of a BertNormalizer).
    case dropNonspacingMarks = "drop_nonspacing_marks"
    /// All marks go (Hugging Face's StripAccents).
    case dropMarks = "drop_marks"
    /// Every character in lower case.
    case lowercase
    /// Unicode's forms NFKD and NFKC.
    case decomposeCompatible = "nfkd"
    case composeCompatible = "nfkc"
    /// Control characters go, some become spaces (Hugging Face's Nmt, SentencePiece's `nmt`).
    case nmt
    /// White space at the start goes, or at the end.
    case stripStart = "strip_start"
    case stripEnd = "strip_end"

    /// A step with a pattern and the text that replaces its matches.
    public static let replaceKey = "replace"
    /// A step with a text that goes before one that is not empty.
    public static let prependKey = "prepend"
    /// SentencePiece's table of replacements.
    public static let precompiledKey = "precompiled"

    /// The list of steps in a container's metadata.
    public static let key = "tokenizer.ebb.normalizer"

    /// BERT's own steps: accents go where letters are lowercased, unless that is said otherwise.
    public static func bert(
        cleanText: Bool = true, separateIdeographs: Bool = true, stripAccents: Bool? = nil, lowercase: Bool
    ) -> [NormalizerStep] {
        (cleanText ? [.cleanText] : []) + (separateIdeographs ? [.separateIdeographs] : [])
            + (stripAccents ?? lowercase ? [.decompose, .dropNonspacingMarks] : []) + (lowercase ? [.lowercase] : [])
    }
}
