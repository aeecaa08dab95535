import Foundation

/// The normalizer and the pre-tokenizer of a tokenizer.json as lists of steps, which a container has as texts: a step's
/// name, then what it works with. What is beyond is refused by name.
struct TextStepsJSON: Sendable {
    private(set) var normalizer: [String] = []
    private(set) var splitter: [String] = []
    /// SentencePiece's table of replacements, which one step may use.
    private(set) var map: [UInt8]?
    /// Tokens are bytes as GPT-2 spells them.
    private(set) var isByteLevel = false
    /// Patterns whose matches are pieces; nil where more than that is done to text before the model.
    private(set) var patterns: [String]? = []
    /// Whether a step writes spaces as U+2581.
    private(set) var marksSpaces = false

    /// GPT-2's pattern, which `ByteLevel` has unless it is told not to split.
    private static let byteLevel = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
    /// What Rust's patterns call `\w`.
    private static let word = #"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]"#
    private static let punctuation = #"[\p{P}\$\+<=>\^`\|~]"#
    /// Bytes of a text that replaces another, or is put before one, at most.
    private static let textLimit = 256

    init(_ file: JSONMembers) throws {
        if let object = try file.members("normalizer") {
            for step in try JSONMembers.sequence(object, "normalizers") { try addNormalizer(step) }
        }
        if let object = try file.members("pre_tokenizer") {
            for step in try JSONMembers.sequence(object, "pretokenizers") { try addSplitter(step) }
        }
        if !isByteLevel || ![[], [NormalizerStep.compose.rawValue]].contains(normalizer) { patterns = nil }
    }

    // MARK: normalizer

    private static let plainSteps: [String: NormalizerStep] = [
        "NFC": .compose, "NFD": .decompose, "NFKC": .composeCompatible, "NFKD": .decomposeCompatible,
        "Lowercase": .lowercase, "StripAccents": .dropMarks, "Nmt": .nmt,
    ]

    private mutating func addNormalizer(_ step: JSONMembers) throws {
        let type = try step.string("type") ?? "BertNormalizer"
        if let plain = Self.plainSteps[type] {
            try step.allow(["type"])
            return normalizer.append(plain.rawValue)
        }
        switch type {
        case "BertNormalizer": normalizer += try TokenizerJSON.steps(step).map(\.rawValue)
        case "Strip":
            try step.allow(["type", "strip_left", "strip_right"])
            if try step.bool("strip_left") ?? true { normalizer.append(NormalizerStep.stripStart.rawValue) }
            if try step.bool("strip_right") ?? true { normalizer.append(NormalizerStep.stripEnd.rawValue) }
        case "Prepend":
            try step.allow(["type", "prepend"])
            normalizer += [NormalizerStep.prependKey, try Self.text(step, "prepend")]
        case "Replace":
            try step.allow(["type", "pattern", "content"])
            let content = try Self.text(step, "content")
            if content == "\u{2581}" { marksSpaces = true }
            normalizer += [NormalizerStep.replaceKey, try Self.pattern(step), content]
        case "Precompiled" where map == nil:
            try step.allow(["type", "precompiled_charsmap"])
            guard let text = try step.string("precompiled_charsmap"), let data = Data(base64Encoded: text) else {
                throw step.refusal("precompiled_charsmap", "is no base64")
            }
            // An empty table replaces nothing.
            guard !data.isEmpty else { return }
            map = Array(data)
            normalizer.append(NormalizerStep.precompiledKey)
        default: throw step.refusal("type", "is \"\(type)\", which is not supported")
        }
    }

    private static func text(_ step: JSONMembers, _ key: String) throws -> String {
        guard let text = try step.string(key) else { throw step.refusal(key, "is missing") }
        guard text.utf8.count <= textLimit else { throw step.refusal(key, "is longer than \(textLimit) bytes") }
        return text
    }

    private static func pattern(_ step: JSONMembers) throws -> String {
        guard let pattern = try step.members("pattern") else { throw step.refusal("pattern", "is missing") }
        if let regex = try pattern.string("Regex") { return regex }
        guard let text = try pattern.string("String"), !text.isEmpty else {
            throw pattern.refusal("String", "is missing")
        }
        return literal(text)
    }

    /// A text stands for itself, also where it has what patterns use.
    private static func literal(_ text: String) -> String {
        text.unicodeScalars.map { "\\x{\(String($0.value, radix: 16))}" }.joined()
    }

    // MARK: pre_tokenizer

    private mutating func addSplitter(_ step: JSONMembers) throws {
        guard !isByteLevel else { throw step.refusal("type", "follows ByteLevel, which is not supported") }
        switch try step.string("type") {
        case "ByteLevel": try addByteLevel(step)
        case "Metaspace": try addMetaspace(step)
        case "Split":
            try step.allow(["type", "pattern", "behavior", "invert"])
            try split(
                Self.pattern(step), Self.behavior(step, try step.string("behavior")),
                isInverted: step.bool("invert") ?? false)
        case "Digits":
            try step.allow(["type", "individual_digits"])
            // Digits in a row are one match there, where each is a match here.
            split(try step.bool("individual_digits") == true ? #"\p{N}"# : #"\p{N}+"#, .isolated)
        case "Punctuation":
            try step.allow(["type", "behavior"])
            split(Self.punctuation, try Self.behavior(step, try step.string("behavior") ?? "Isolated"))
        case "Whitespace":
            try step.allow(["type"])
            split("\(Self.word)+|[^\(Self.word)\\s]+", .removed, isInverted: true)
        case "WhitespaceSplit":
            try step.allow(["type"])
            split(#"\s"#, .removed)
        case "BertPreTokenizer":
            try step.allow(["type"])
            split(#"\s"#, .removed)
            split(Self.punctuation, .isolated)
        case "CharDelimiterSplit":
            try step.allow(["type", "delimiter"])
            guard let text = try step.string("delimiter"), !text.isEmpty else {
                throw step.refusal("delimiter", "is missing")
            }
            split(Self.literal(text), .removed)
        case let type: throw step.refusal("type", "is \"\(type ?? "none")\", which is not supported")
        }
    }

    private mutating func split(_ pattern: String, _ behavior: SplitBehavior, isInverted: Bool = false) {
        splitter += [SplitBehavior.splitKey, pattern, behavior.rawValue, isInverted ? "1" : "0"]
        // Between matches and what lies between them, to invert changes nothing.
        if behavior == .isolated { patterns?.append(pattern) } else { patterns = nil }
    }

    private static func behavior(_ step: JSONMembers, _ name: String?) throws -> SplitBehavior {
        guard let name, let behavior = SplitBehavior(rawValue: name) else {
            throw step.refusal("behavior", "is \"\(name ?? "none")\", which is not supported")
        }
        return behavior
    }

    private mutating func addByteLevel(_ step: JSONMembers) throws {
        try step.allow(["type", "add_prefix_space", "trim_offsets", "use_regex"])
        isByteLevel = true
        if try step.bool("add_prefix_space") ?? true {
            splitter.append(SplitBehavior.spaceKey)
            patterns = nil
        }
        if try step.bool("use_regex") ?? true { split(Self.byteLevel, .isolated) }
    }

    private mutating func addMetaspace(_ step: JSONMembers) throws {
        try step.allow(["type", "replacement", "add_prefix_space", "prepend_scheme", "str_rep", "split"])
        let mark = try step.string("replacement") ?? "\u{2581}"
        guard mark.unicodeScalars.count == 1 else { throw step.refusal("replacement", "is not one character") }
        let scheme = try step.string("prepend_scheme") ?? (step.bool("add_prefix_space") == false ? "never" : "always")
        guard ["always", "first", "never"].contains(scheme) else {
            throw step.refusal("prepend_scheme", "is \"\(scheme)\", which is not supported")
        }
        if mark == "\u{2581}" { marksSpaces = true }
        splitter += [SplitBehavior.metaspaceKey, mark, scheme]
        if try step.bool("split") ?? true { split(Self.literal(mark), .mergedWithNext) }
        patterns = nil
    }

    // MARK: The container

    func encode(into metadata: inout MetadataEncoder) {
        metadata.set(NormalizerStep.key, normalizer)
        metadata.set(SplitBehavior.key, splitter)
        if let map { metadata.set("tokenizer.ggml.precompiled_charsmap", Numbers(map)) }
    }
}
