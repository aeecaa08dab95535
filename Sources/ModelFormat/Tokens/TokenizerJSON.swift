/// The parts of a Hugging Face tokenizer.json that describe a WordPiece tokenizer.
struct TokenizerJSON: Sendable {
    let tokens: [String]
    private let special: Set<Int>
    private let lowercase: Bool
    private let unknown: Int
    private let ids: [String: Int]

    private struct File: Decodable {
        struct Model: Decodable {
            var type: String?
            var unk_token: String?
            var vocab: [String: Int]
        }
        struct Added: Decodable {
            var id: Int
            var special: Bool?
        }
        struct Normalizer: Decodable { var lowercase: Bool? }
        var model: Model
        var added_tokens: [Added]?
        var normalizer: Normalizer?
    }

    init(folder: String) throws {
        let path = folder + "/tokenizer.json"
        let file = try HuggingFaceFolder.decode(File.self, folder, "tokenizer.json")
        guard file.model.type ?? "WordPiece" == "WordPiece" else {
            throw FormatError("\(path): the tokenizer \"\(file.model.type ?? "")\" is not supported (WordPiece is)")
        }
        var tokens = [String?](repeating: nil, count: file.model.vocab.count)
        for (token, id) in file.model.vocab {
            guard tokens.indices.contains(id), tokens[id] == nil else {
                throw FormatError("\(path): the token \(token) has the impossible id \(id)")
            }
            guard !token.utf8.contains(0x0a) else { throw FormatError("\(path): a token contains a line break") }
            tokens[id] = token
        }
        self.tokens = tokens.compactMap { $0 }
        ids = file.model.vocab
        guard let unknown = ids[file.model.unk_token ?? "[UNK]"], ids["[CLS]"] != nil, ids["[SEP]"] != nil else {
            throw FormatError("\(path) needs the tokens [UNK], [CLS] and [SEP]")
        }
        self.unknown = unknown
        special = Set((file.added_tokens ?? []).filter { $0.special ?? true }.map(\.id))
        lowercase = file.normalizer?.lowercase ?? true
    }

    func encode(into metadata: inout MetadataEncoder) {
        metadata.set("tokenizer.ggml.model", "wordpiece")
        // One string, a token a line: half the size of GGUF's array of strings.
        metadata.set("tokenizer.ebb.vocabulary", tokens.joined(separator: "\n"))
        metadata.set("tokenizer.ebb.special_tokens", special.sorted().map { Int32(clamping: $0) })
        metadata.set("tokenizer.ggml.unknown_token_id", UInt32(unknown))
        metadata.set("tokenizer.ggml.bos_token_id", UInt32(ids["[CLS]"] ?? 0))
        metadata.set("tokenizer.ggml.eos_token_id", UInt32(ids["[SEP]"] ?? 0))
        metadata.set("tokenizer.ggml.add_bos_token", true)
        metadata.set("tokenizer.ggml.add_eos_token", true)
        metadata.set("tokenizer.ebb.lowercase", lowercase)
    }
}
