/// What a Hugging Face folder's tokenizer files say.
protocol FolderTokenizer: Sendable {
    /// How many tokens there are.
    var count: Int { get }
    /// Tokens of a text at most, those around it included, where the files say so.
    var maxTokens: Int? { get }
    /// The tokens that are put around a text.
    var ends: TextEndTokens { get }
    func id(_ token: String) -> Int?
    /// - Parameter ends: stand in for its own, where other files know more.
    func encode(into metadata: inout MetadataEncoder, ends: TextEndTokens) throws
}

/// A Hugging Face tokenizer.json of a WordPiece tokenizer, with what tokenizer_config.json adds. Every key is used, known
/// not to matter, or refused by its name.
struct TokenizerJSON: FolderTokenizer {
    let tokens: [String]
    var count: Int { tokens.count }
    /// Tokens of a text at most, [CLS] and [SEP] included, where these files say so.
    let maxTokens: Int?
    private let special: Set<Int>
    private let steps: [NormalizerStep]
    private let unknown: Int
    private let first: Int
    private let last: Int
    private let continuation: String
    private let longestWord: Int

    /// What `continuing_subword_prefix` and `max_input_chars_per_word` are in BERT.
    private static let usualContinuation = "##"
    private static let usualLongestWord = 100

    var ends: TextEndTokens { TextEndTokens(first: first, last: last, says: true) }

    func id(_ token: String) -> Int? { tokens.firstIndex(of: token) }

    /// The tokenizer of a folder, whatever its model.
    /// - Parameter rows: tokens that the model has; those that the tokenizer lacks are unused.
    static func open(folder: String, rows: Int = 0) throws -> any FolderTokenizer {
        let path = folder + "/tokenizer.json"
        let file = JSONMembers(path, try FolderFile(folder, "tokenizer.json").members())
        // `decoder` makes text of tokens, `padding` fills batches: embeddings need neither.
        try file.allow([
            "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
            "decoder",
            "model",
        ])
        switch try file.members("model")?.string("type") {
        case "BPE", "Unigram": return try SubwordJSON(file, folder: folder, rows: rows)
        case "WordPiece" where try !isBert(file): return try SubwordJSON(file, folder: folder, rows: rows)
        default: return try TokenizerJSON(file, folder: folder)
        }
    }

    /// Whether text is split as BERT's tokenizer does it, and normalized by steps that this reads; the form that a container
    /// has for that is the smallest.
    private static func isBert(_ file: JSONMembers) throws -> Bool {
        let known = ["BertNormalizer", "Lowercase", "NFD", "NFC", "StripAccents"]
        let isNormalized = try file.members("normalizer").map { normalizer in
            try JSONMembers.sequence(normalizer, "normalizers").allSatisfy {
                known.contains(try $0.string("type") ?? "BertNormalizer")
            }
        }
        let isSplit = try file["pre_tokenizer"].map { _ in
            try file.members("pre_tokenizer")?.string("type") == "BertPreTokenizer"
        }
        // Tokens that are looked for in normalized text are beyond it (MPNet's <unk>).
        let isPlain = try !AddedTokens(file, isNormalized: true).tokens.contains {
            $0.isSpecial && $0.flags & AddedTokens.isNormalized != 0
        }
        return isNormalized ?? true && isSplit ?? true && isPlain
    }

    private init(_ file: JSONMembers, folder: String) throws {
        let path = file.what
        let model = try Self.model(file)
        var tokens = try Self.tokens(model, path)
        special = try Self.addedTokens(file, &tokens)
        self.tokens = tokens
        let ids = Dictionary(tokens.enumerated().map { ($1, $0) }) { first, _ in first }
        guard let unknown = ids[try model.string("unk_token") ?? "[UNK]"] else {
            throw FormatError("\(path): the vocabulary lacks model.unk_token, [UNK] as a rule")
        }
        self.unknown = unknown
        continuation = try model.string("continuing_subword_prefix") ?? Self.usualContinuation
        longestWord = try model.int("max_input_chars_per_word") ?? Self.usualLongestWord
        guard !continuation.isEmpty else { throw model.refusal("continuing_subword_prefix", "is empty") }
        guard (0...Int(Int32.max)).contains(longestWord) else {
            throw model.refusal("max_input_chars_per_word", "is \(longestWord)")
        }
        steps = try Self.normalizer(file)
        try Self.checkSplitting(file)
        (first, last) = try Self.ends(file, ids)
        let config = try Self.configuration(folder, steps)
        maxTokens = try config ?? Self.truncation(file)
    }

    func encode(into metadata: inout MetadataEncoder, ends: TextEndTokens) {
        metadata.set("tokenizer.ggml.model", "wordpiece")
        // One string, a token a line: half the size of GGUF's array of strings.
        metadata.set("tokenizer.ebb.vocabulary", tokens.joined(separator: "\n"))
        metadata.set("tokenizer.ebb.special_tokens", special.sorted().map { Int32(clamping: $0) })
        metadata.set("tokenizer.ggml.unknown_token_id", UInt32(unknown))
        ends.encode(into: &metadata)
        let lowercase = steps.contains(.lowercase)
        metadata.set("tokenizer.ebb.lowercase", lowercase)
        if steps != NormalizerStep.bert(lowercase: lowercase) {
            metadata.set(NormalizerStep.key, steps.map(\.rawValue))
        }
        if longestWord != Self.usualLongestWord { metadata.set("tokenizer.ebb.longest_word", UInt32(longestWord)) }
        if continuation != Self.usualContinuation { metadata.set("tokenizer.ebb.continuation", continuation) }
    }

    // MARK: model, added_tokens

    private static func model(_ file: JSONMembers) throws -> JSONMembers {
        guard let model = try file.members("model") else { throw file.refusal("model", "is missing") }
        let type = try model.string("type") ?? "WordPiece"
        guard type == "WordPiece" else {
            throw FormatError(
                "\(file.what): the tokenizer \"\(type)\" is not supported (WordPiece, BPE and Unigram are)")
        }
        try model.allow(["type", "vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word"])
        return model
    }

    private static func tokens(_ model: JSONMembers, _ path: String) throws -> [String] {
        let tokens = try vocabulary(model, path)
        for token in tokens { try checkText(token, path) }
        return tokens
    }

    /// The tokens by their ids, of which none is left out or said twice.
    static func vocabulary(_ model: JSONMembers, _ what: String) throws -> [String] {
        guard let vocabulary = model["vocab"]?.object else { throw model.refusal("vocab", "is no object") }
        var tokens = [String?](repeating: nil, count: vocabulary.count)
        for (token, node) in vocabulary {
            guard let id = node.int, tokens.indices.contains(id), tokens[id] == nil else {
                throw FormatError("\(what): the token \(token) has an impossible id")
            }
            tokens[id] = token
        }
        return tokens.compactMap { $0 }
    }

    private static func checkText(_ token: String, _ path: String) throws {
        guard !token.utf8.contains(0x0a) else { throw FormatError("\(path): a token contains a line break") }
    }

    /// The special tokens, which are all that can be added here. Those that the vocabulary lacks follow it.
    private static func addedTokens(_ file: JSONMembers, _ tokens: inout [String]) throws -> Set<Int> {
        let added = try AddedTokens(file, isNormalized: true)
        for token in added.tokens {
            try checkText(token.text, file.what)
            guard token.isSpecial else {
                throw FormatError(
                    "\(token.what): special is false (\(token.text)): only special tokens can be added")
            }
            // White space beside a token goes anyway, so lstrip and rstrip change nothing.
            for (flag, key) in [(AddedTokens.isWord, "single_word"), (AddedTokens.isNormalized, "normalized")]
            where token.flags & flag != 0 {
                throw FormatError("\(token.what): \(key) is true (\(token.text)), which is not supported")
            }
        }
        var kinds = [Vocabulary.Kind](repeating: .normal, count: tokens.count)
        try added.add(to: &tokens, &kinds)
        return Set(added.tokens.map(\.id))
    }

    // MARK: normalizer, pre_tokenizer

    private static func normalizer(_ file: JSONMembers) throws -> [NormalizerStep] {
        guard let node = file["normalizer"] else { return NormalizerStep.bert(lowercase: true) }
        return node.isNull ? [] : try steps(JSONMembers(file.what + ": normalizer", node.object ?? JSONObject()))
    }

    static func steps(_ normalizer: JSONMembers) throws -> [NormalizerStep] {
        let type = try normalizer.string("type") ?? "BertNormalizer"
        switch type {
        case "BertNormalizer":
            try normalizer.allow(["type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"])
            return NormalizerStep.bert(
                cleanText: try normalizer.bool("clean_text") ?? true,
                separateIdeographs: try normalizer.bool("handle_chinese_chars") ?? true,
                stripAccents: try normalizer.bool("strip_accents"),
                lowercase: try normalizer.bool("lowercase") ?? true)
        case "Sequence":
            try normalizer.allow(["type", "normalizers"])
            guard let list = normalizer["normalizers"]?.array else {
                throw normalizer.refusal("normalizers", "is no list")
            }
            return try list.enumerated().flatMap { index, node in
                try steps(JSONMembers("\(normalizer.what): normalizers[\(index)]", node.object ?? JSONObject()))
            }
        case "Lowercase", "NFD", "NFC", "StripAccents":
            try normalizer.allow(["type"])
            return [
                type == "NFD" ? .decompose : type == "NFC" ? .compose : type == "Lowercase" ? .lowercase : .dropMarks
            ]
        default: throw normalizer.refusal("type", "is \"\(type)\", which is not supported")
        }
    }

    private static func checkSplitting(_ file: JSONMembers) throws {
        guard let node = file["pre_tokenizer"] else { return }
        let type = try JSONMembers(file.what + ": pre_tokenizer", node.object ?? JSONObject()).string("type") ?? "none"
        guard type == "BertPreTokenizer" else {
            throw file.refusal("pre_tokenizer", "is \"\(type)\", which is not supported (BertPreTokenizer is)")
        }
    }

    // MARK: post_processor, truncation

    /// The tokens before and after a text: [CLS] and [SEP].
    private static func ends(_ file: JSONMembers, _ ids: [String: Int]) throws -> (Int, Int) {
        let (first, last) = try endNames(file)
        guard let first = ids[first], let last = ids[last] else {
            throw FormatError("\(file.what): the vocabulary lacks \(first) or \(last), which go around a text")
        }
        return (first, last)
    }

    private static func endNames(_ file: JSONMembers) throws -> (String, String) {
        guard let node = file["post_processor"] else { return ("[CLS]", "[SEP]") }
        let processor = JSONMembers(file.what + ": post_processor", node.object ?? JSONObject())
        switch try processor.string("type") {
        case "BertProcessing", "RobertaProcessing":
            // Trimming moves offsets alone; the space that is added is one before the words of a byte-level tokenizer.
            try processor.allow(["type", "cls", "sep", "trim_offsets", "add_prefix_space"])
            guard let first = processor["cls"]?.array?.first?.string, let last = processor["sep"]?.array?.first?.string
            else { throw processor.refusal("cls", "or sep is missing") }
            return (first, last)
        case "TemplateProcessing":
            try processor.allow(["type", "single", "pair", "special_tokens"])
            return try template(processor)
        case let type:
            throw processor.refusal(
                "type",
                "is \"\(type ?? "none")\", which is not supported (BertProcessing, RobertaProcessing, "
                    + "TemplateProcessing)")
        }
    }

    /// `[CLS] $A [SEP]`, all of type 0, each special token one id.
    private static func template(_ processor: JSONMembers) throws -> (String, String) {
        let parts = processor["single"]?.array ?? []
        func special(_ index: Int) -> String? {
            guard parts.count == 3, let part = parts[index].object?["SpecialToken"]?.object else { return nil }
            guard part["type_id"]?.int == 0, let id = part["id"]?.string,
                let token = processor["special_tokens"]?.object?[id]?.object,
                let names = token["tokens"]?.array, names.count == 1
            else { return nil }
            return names[0].string
        }
        guard let first = special(0), let last = special(2),
            let text = parts[1].object?["Sequence"]?.object, text["type_id"]?.int == 0, text["id"]?.string == "A"
        else {
            throw processor.refusal("single", "is not a token, the text and a token, all of type 0: not supported")
        }
        return (first, last)
    }

    static func truncation(_ file: JSONMembers) throws -> Int? {
        guard let truncation = try file.members("truncation") else { return nil }
        try truncation.allow(["max_length", "strategy", "stride", "direction"])
        let direction = try truncation.string("direction") ?? "Right"
        guard direction == "Right" else {
            throw truncation.refusal("direction", "is \"\(direction)\": only Right is possible")
        }
        return try truncation.int("max_length")
    }

    // MARK: tokenizer_config.json

    /// What transformers reads beside tokenizer.json. Its keys say again what tokenizer.json says: a contradiction is refused,
    /// since programs then differ.
    /// - Returns: `model_max_length`.
    static func configuration(_ folder: String, _ steps: [NormalizerStep]) throws -> Int? {
        let name = "tokenizer_config.json"
        guard let members = try FolderFile(optional: folder, name)?.members() else { return nil }
        let config = JSONMembers(folder + "/" + name, members)
        for (key, step) in [
            ("do_lower_case", .lowercase), ("tokenize_chinese_chars", .separateIdeographs),
            ("strip_accents", .dropNonspacingMarks),
        ] as [(String, NormalizerStep)] {
            guard let wanted = members[key]?.bool, wanted != steps.contains(step) else { continue }
            if key == "strip_accents", steps.contains(.dropMarks) { continue }
            throw config.refusal(key, "is \(wanted), but tokenizer.json's normalizer says otherwise: make them agree")
        }
        if try config.string("truncation_side") == "left" {
            throw config.refusal("truncation_side", "is \"left\": only right is possible")
        }
        // Where there is no limit, transformers write 1e30.
        return members["model_max_length"]?.int
    }
}

/// A JSON object and what to call it in errors.
struct JSONMembers {
    let what: String
    private let members: JSONObject

    init(_ what: String, _ members: JSONObject) { (self.what, self.members) = (what, members) }

    subscript(key: String) -> JSONNode? { members[key] }

    func refusal(_ key: String, _ why: String) -> FormatError { FormatError("\(what): \(key) \(why)") }

    /// - Throws: ``FormatError`` that names the first key that is not of these.
    func allow(_ keys: Set<String>) throws {
        if let other = members.keys.filter({ !keys.contains($0) }).min() {
            throw refusal(other, "is not known: it might change what texts mean")
        }
    }

    func string(_ key: String) throws -> String? { try value(key, "text") { $0.string } }
    func int(_ key: String) throws -> Int? { try value(key, "a number") { $0.int } }
    func bool(_ key: String) throws -> Bool? { try value(key, "true or false") { $0.bool } }

    /// nil where it is missing or null.
    func members(_ key: String) throws -> JSONMembers? {
        try value(key, "an object") { $0.object }.map { JSONMembers("\(what): \(key)", $0) }
    }

    private func value<T>(_ key: String, _ kind: String, _ read: (JSONNode) -> T?) throws -> T? {
        guard let node = members[key], !node.isNull else { return nil }
        guard let value = read(node) else { throw refusal(key, "is not \(kind)") }
        return value
    }
}
