/// A Hugging Face tokenizer.json of any model: what is done to text before the model (``TextStepsJSON``), the model's own
/// tables, tokens around a text, and how tokens become text. Every key is used, known not to matter, or refused by its name.
struct SubwordJSON: FolderTokenizer {
    let maxTokens: Int?
    var count: Int { vocabulary.count }
    private let vocabulary: Vocabulary
    private let added: AddedTokens
    private let model: Model
    private let steps: TextStepsJSON
    private let decoder: DecoderJSON
    let ends: TextEndTokens

    private enum Model: Sendable {
        case bytePair(BytePairJSON)
        case unigram(UnigramJSON, UnigramText?)
        case wordPiece(WordPieceJSON)
    }

    /// - Parameter rows: tokens that the model has; those that the tokenizer lacks are unused.
    init(_ file: JSONMembers, folder: String, rows: Int) throws {
        guard let model = try file.members("model") else { throw file.refusal("model", "is missing") }
        steps = try TextStepsJSON(file)
        added = try AddedTokens(file, isNormalized: !steps.normalizer.isEmpty, rows: rows)
        let type = try model.string("type")
        if type == "Unigram" {
            let unigram = try UnigramJSON(model, added, file.what, rows: rows)
            vocabulary = unigram.vocabulary
            // What SentencePiece itself does has a way of its own.
            self.model = .unigram(unigram, added.hasNormalized ? nil : try? UnigramText(file))
        } else if type == "BPE" {
            let bytePair = try BytePairJSON(model, added, file.what, rows: rows, isByteLevel: steps.isByteLevel)
            vocabulary = bytePair.vocabulary
            self.model = .bytePair(bytePair)
        } else {
            let wordPiece = try WordPieceJSON(model, added, file.what, rows: rows)
            vocabulary = wordPiece.vocabulary
            self.model = .wordPiece(wordPiece)
        }
        if steps.isByteLevel, type != "BPE" {
            throw file.refusal("pre_tokenizer", "is ByteLevel, which is not supported with \(type ?? "none")")
        }
        decoder = try DecoderJSON(file, marksSpaces: steps.marksSpaces)
        ends = try Self.ends(file, vocabulary)
        let plain = steps.normalizer.compactMap(NormalizerStep.init)
        maxTokens = try TokenizerJSON.configuration(folder, plain) ?? TokenizerJSON.truncation(file)
    }

    // MARK: Tokens around a text

    func id(_ token: String) -> Int? { vocabulary.id(Array(token.utf8)).map { Int($0) } }

    private static func ends(_ file: JSONMembers, _ vocabulary: Vocabulary) throws -> TextEndTokens {
        let none = TextEndTokens(first: nil, last: nil, says: false)
        guard let processor = try file.members("post_processor") else { return none }
        func id(_ name: String?) throws -> Int? {
            guard let name else { return nil }
            guard let id = vocabulary.id(Array(name.utf8)) else {
                throw processor.refusal("single", "has \(name), no token")
            }
            return Int(id)
        }
        // ByteLevel only moves offsets.
        let all = try JSONMembers.sequence(processor, "processors")
        let steps = try all.filter { try $0.string("type") != "ByteLevel" }
        guard let step = steps.first else { return TextEndTokens(first: nil, last: nil, says: !all.isEmpty) }
        guard steps.count == 1 else { throw processor.refusal("processors", "has more than one that adds tokens") }
        switch try step.string("type") {
        case "BertProcessing", "RobertaProcessing":
            return TextEndTokens(
                first: try id(step["cls"]?.array?.first?.string), last: try id(step["sep"]?.array?.first?.string),
                says: true)
        case "TemplateProcessing":
            let parts = (step["single"]?.array ?? []).map { part in
                part.object?["SpecialToken"]?.object?["id"]?.string ?? (part.object?["Sequence"] == nil ? "" : nil)
            }
            guard let text = parts.firstIndex(of: nil), parts.count <= 3, text <= 1, parts.count - text <= 2 else {
                throw step.refusal("single", "is not a text with a token before and after it at most: not supported")
            }
            return TextEndTokens(
                first: try id(text == 1 ? parts[0] : nil),
                last: try id(parts.count - text == 2 ? parts[text + 1] : nil),
                says: false)
        case let type:
            throw step.refusal("type", "is \"\(type ?? "none")\", which is not supported")
        }
    }

    func encode(into metadata: inout MetadataEncoder, ends: TextEndTokens) throws {
        vocabulary.encode(into: &metadata)
        added.encode(into: &metadata)
        decoder.encode(into: &metadata)
        ends.encode(into: &metadata)
        switch model {
        case .bytePair(let model):
            model.encode(into: &metadata)
            if let patterns = steps.patterns, !added.hasNormalized, model.isPlain {
                metadata.set("tokenizer.ebb.split_patterns", patterns)
                metadata.set("tokenizer.ebb.composes", !steps.normalizer.isEmpty)
            } else {
                steps.encode(into: &metadata)
            }
        case .unigram(let model, let text):
            model.encode(into: &metadata)
            if let text { text.encode(into: &metadata) } else { steps.encode(into: &metadata) }
        case .wordPiece(let model):
            model.encode(into: &metadata)
            steps.encode(into: &metadata)
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
            try sequence(
                JSONMembers("\(object.what): \(key)[\(index)]", node.object ?? JSONObject()), key, depth: depth + 1)
        }
    }
}
