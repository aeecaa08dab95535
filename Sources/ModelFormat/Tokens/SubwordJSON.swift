/// A Hugging Face tokenizer.json of a byte-level BPE or a Unigram model, as what the container's encoders do: patterns that
/// split, the form NFC, compiled replacements, tokens around a text. Every key is used, known not to matter, or refused by
/// its name.
struct SubwordJSON: FolderTokenizer {
    let maxTokens: Int?
    var count: Int { vocabulary.count }
    private let vocabulary: Vocabulary
    private let added: AddedTokens
    private let model: Model
    private let first: Int?
    private let last: Int?

    private enum Model: Sendable {
        case bytePair(MergeTable, patterns: [String], composes: Bool, ignoresMerges: Bool)
        case unigram(scores: [Float], unknown: Int, UnigramText)
    }

    init(_ file: JSONMembers, folder: String) throws {
        guard let model = try file.members("model") else { throw file.refusal("model", "is missing") }
        added = try AddedTokens(file)
        let isBytePair = try model.string("type") == "BPE"
        var (tokens, scores) =
            isBytePair ? (try TokenizerJSON.vocabulary(model, model.what), []) : try Self.scored(model)
        var kinds = [Vocabulary.Kind](repeating: .normal, count: tokens.count)
        try added.add(to: &tokens, &kinds, file.what)
        scores += [Float](repeating: 0, count: isBytePair ? 0 : tokens.count - scores.count)
        if isBytePair {
            vocabulary = try Vocabulary(tokens, kinds, .byteLevel)
            self.model = try Self.bytePair(file, model, vocabulary)
        } else {
            let unknown = try model.int("unk_id") ?? -1
            guard tokens.indices.contains(unknown) else { throw model.refusal("unk_id", "is missing or impossible") }
            if kinds[unknown] == .normal { kinds[unknown] = .unknown }
            vocabulary = try Vocabulary(tokens, kinds, .text)
            self.model = .unigram(scores: scores, unknown: unknown, try UnigramText(file))
        }
        try Self.checkNormalized(file, added)
        (first, last) = try Self.ends(file, tokens)
        maxTokens = try TokenizerJSON.configuration(folder, []) ?? TokenizerJSON.truncation(file)
    }

    /// A token that is found in normalized text is found in the text itself where nothing is normalized.
    private static func checkNormalized(_ file: JSONMembers, _ added: AddedTokens) throws {
        guard let node = file["normalizer"], !node.isNull else { return }
        if let token = added.tokens.first(where: { $0.isNormalized && !$0.isSpecial }) {
            throw file.refusal(
                "added_tokens", "has \(token.text), which is looked for in normalized text: not supported")
        }
    }

    // MARK: The model

    private static func scored(_ model: JSONMembers) throws -> ([String], [Float]) {
        try model.allow(["type", "unk_id", "vocab", "byte_fallback"])
        if try model.bool("byte_fallback") == true { throw model.refusal("byte_fallback", "is true: not supported") }
        guard let list = model["vocab"]?.array else { throw model.refusal("vocab", "is no list") }
        var (tokens, scores): ([String], [Float]) = ([], [])
        for (id, node) in list.enumerated() {
            guard let pair = node.array, pair.count == 2, let token = pair[0].string, let score = pair[1].number else {
                throw FormatError("\(model.what): vocab[\(id)] is no token with its score")
            }
            tokens.append(token)
            scores.append(Float(score))
        }
        return (tokens, scores)
    }

    private static func bytePair(_ file: JSONMembers, _ model: JSONMembers, _ vocabulary: Vocabulary) throws -> Model {
        try model.allow([
            "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
            "byte_fallback", "ignore_merges", "vocab", "merges",
        ])
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] where try model.string(key)?.isEmpty == false {
            throw model.refusal(key, "is not empty: only byte-level BPE is supported")
        }
        for key in ["dropout", "unk_token"] where model[key]?.isNull == false {
            throw model.refusal(key, "is set: only byte-level BPE is supported")
        }
        if try model.bool("byte_fallback") == true { throw model.refusal("byte_fallback", "is true: not supported") }
        guard let list = model["merges"]?.array else { throw model.refusal("merges", "is no list") }
        let pairs = try list.enumerated().map { rank, node -> (left: String, right: String) in
            let parts = node.array?.compactMap(\.string) ?? node.string?.split(separator: " ").map(String.init) ?? []
            guard parts.count == 2 else { throw FormatError("\(model.what): merges[\(rank)] is no pair of tokens") }
            return (parts[0], parts[1])
        }
        return .bytePair(
            try MergeTable(pairs, vocabulary, .byteLevel), patterns: try SplitJSON.patterns(file),
            composes: try composes(file), ignoresMerges: try model.bool("ignore_merges") ?? false)
    }

    private static func composes(_ file: JSONMembers) throws -> Bool {
        guard let normalizer = try file.members("normalizer") else { return false }
        let steps = try JSONMembers.sequence(normalizer, "normalizers")
        for step in steps {
            let type = try step.string("type") ?? "none"
            guard type == "NFC" else {
                throw step.refusal("type", "is \"\(type)\", which is not supported with BPE (NFC is)")
            }
        }
        return !steps.isEmpty
    }

    // MARK: Tokens around a text

    private static func ends(_ file: JSONMembers, _ tokens: [String]) throws -> (Int?, Int?) {
        guard let processor = try file.members("post_processor") else { return (nil, nil) }
        func id(_ name: String?) throws -> Int? {
            guard let name else { return nil }
            guard let id = tokens.firstIndex(of: name) else {
                throw processor.refusal("single", "has \(name), no token")
            }
            return id
        }
        // ByteLevel only moves offsets.
        let steps = try JSONMembers.sequence(processor, "processors").filter { try $0.string("type") != "ByteLevel" }
        guard let step = steps.first else { return (nil, nil) }
        guard steps.count == 1 else { throw processor.refusal("processors", "has more than one that adds tokens") }
        switch try step.string("type") {
        case "BertProcessing", "RobertaProcessing":
            return (try id(step["cls"]?.array?.first?.string), try id(step["sep"]?.array?.first?.string))
        case "TemplateProcessing":
            let parts = (step["single"]?.array ?? []).map { part in
                part.object?["SpecialToken"]?.object?["id"]?.string ?? (part.object?["Sequence"] == nil ? "" : nil)
            }
            guard let text = parts.firstIndex(of: nil), parts.count <= 3, text <= 1, parts.count - text <= 2 else {
                throw step.refusal("single", "is not a text with a token before and after it at most: not supported")
            }
            return (try id(text == 1 ? parts[0] : nil), try id(parts.count - text == 2 ? parts[text + 1] : nil))
        case let type:
            throw step.refusal("type", "is \"\(type ?? "none")\", which is not supported")
        }
    }

    func encode(into metadata: inout MetadataEncoder) throws {
        vocabulary.encode(into: &metadata)
        added.encode(into: &metadata)
        for (name, id) in [("bos", first), ("eos", last)] {
            if let id { metadata.set("tokenizer.ggml.\(name)_token_id", UInt32(clamping: id)) }
            metadata.set("tokenizer.ggml.add_\(name)_token", id != nil)
        }
        switch model {
        case .bytePair(let merges, let patterns, let composes, let ignoresMerges):
            metadata.set("tokenizer.ggml.model", "gpt2")
            metadata.set("tokenizer.ebb.split_patterns", patterns)
            metadata.set("tokenizer.ebb.composes", composes)
            metadata.set("tokenizer.ebb.ignores_merges", ignoresMerges)
            merges.encode(into: &metadata)
        case .unigram(let scores, let unknown, let text):
            metadata.set("tokenizer.ggml.model", "t5")
            metadata.set("tokenizer.ggml.scores", floats: scores)
            metadata.set("tokenizer.ggml.unknown_token_id", UInt32(clamping: unknown))
            text.encode(into: &metadata)
        }
    }
}

extension JSONMembers {
    /// The members of a `Sequence`, in one list with those of sequences in it; or the object alone.
    static func sequence(_ object: JSONMembers, _ key: String, depth: Int = 0) throws -> [JSONMembers] {
        guard try object.string("type") == "Sequence" else { return [object] }
        guard depth < 8, let list = object[key]?.array else {
            throw object.refusal(key, "is no list, or nested too deep")
        }
        return try list.enumerated().flatMap { index, node in
            try sequence(JSONMembers("\(object.what): \(key)[\(index)]", node.object ?? [:]), key, depth: depth + 1)
        }
    }
}
