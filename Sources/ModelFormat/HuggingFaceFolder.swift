import Foundation
import Quantization

/// A folder as Hugging Face models come: config.json, model.safetensors, tokenizer.json, and for sentence-transformers
/// 1_Pooling/config.json. The BERT family is read; tensors get the names that GGUF gives them.
public struct HuggingFaceFolder: ModelSource {
    public let path: String
    public let tensors: [SourceTensor]
    private let weights: SafetensorsFile
    private let sourceNames: [String: String]
    private let config: Config
    private let pooling: Pooling
    private let tokenizer: WordPieceFile

    struct Config: Decodable {
        var model_type: String?
        var hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: Int
        var max_position_embeddings, vocab_size: Int
        var type_vocab_size: Int?
        var layer_norm_eps: Double?
        var hidden_act: String?
        var position_embedding_type: String?
    }

    struct Pooling: Decodable {
        var pooling_mode_cls_token: Bool?
        var pooling_mode_mean_tokens: Bool?
    }

    private struct Sentence: Decodable { var max_seq_length: Int? }
    private struct Module: Decodable { var type: String }

    public var format: String { "safetensors" }
    public var byteCount: Int { weights.file.bytes.count }

    /// - Throws: ``FormatError`` where a file is missing, or holds what Ebb does not run.
    public init(path: String) throws {
        self.path = path
        config = try Self.decode(Config.self, path, "config.json")
        let family = config.model_type ?? "none"
        guard family == "bert" else {
            throw FormatError(
                "\(path): a folder of the model type \"\(family)\" is not supported (bert is; convert others to GGUF)")
        }
        guard ["gelu", nil].contains(config.hidden_act) else {
            throw FormatError("\(path): the activation \"\(config.hidden_act ?? "")\" is not supported (gelu is)")
        }
        guard ["absolute", nil].contains(config.position_embedding_type) else {
            throw FormatError("\(path): only absolute position embeddings are supported")
        }
        pooling = try Self.optional(Pooling.self, path, "1_Pooling/config.json") ?? Pooling()
        if pooling.pooling_mode_cls_token != true, pooling.pooling_mode_mean_tokens == false {
            throw FormatError("\(path): only mean and CLS pooling are supported")
        }
        tokenizer = try WordPieceFile(folder: path)
        guard tokenizer.tokens.count == config.vocab_size else {
            throw FormatError(
                "\(path): tokenizer.json has \(tokenizer.tokens.count) tokens, config.json says \(config.vocab_size)")
        }
        weights = try SafetensorsFile(path: path + "/model.safetensors")
        (tensors, sourceNames) = try Self.tensors(config, weights, path)
    }

    private static func optional<T: Decodable>(_ type: T.Type, _ folder: String, _ name: String) throws -> T? {
        FileManager.default.fileExists(atPath: folder + "/" + name) ? try decode(type, folder, name) : nil
    }

    static func decode<T: Decodable>(_ type: T.Type, _ folder: String, _ name: String) throws -> T {
        let path = folder + "/" + name
        guard let data = FileManager.default.contents(atPath: path) else {
            throw FormatError("\(path) is missing: a model folder needs config.json, model.safetensors, tokenizer.json")
        }
        do {
            return try JSONDecoder().decode(type, from: data)
        } catch DecodingError.keyNotFound(let key, _) {
            throw FormatError("\(path) lacks \"\(key.stringValue)\"")
        } catch {
            throw FormatError("\(path) is not the JSON that is expected: \(error)")
        }
    }

    /// The names of GGUF (left) and of Hugging Face's BertModel (right).
    private static let fixedNames = [
        ("token_embd.weight", "embeddings.word_embeddings.weight"),
        ("position_embd.weight", "embeddings.position_embeddings.weight"),
        ("token_types.weight", "embeddings.token_type_embeddings.weight"),
        ("token_embd_norm.weight", "embeddings.LayerNorm.weight"),
        ("token_embd_norm.bias", "embeddings.LayerNorm.bias"),
    ]
    private static let layerNames = [
        ("attn_q", "attention.self.query"), ("attn_k", "attention.self.key"), ("attn_v", "attention.self.value"),
        ("attn_output", "attention.output.dense"), ("attn_output_norm", "attention.output.LayerNorm"),
        ("ffn_up", "intermediate.dense"), ("ffn_down", "output.dense"), ("layer_output_norm", "output.LayerNorm"),
    ]

    private static func tensors(
        _ config: Config, _ weights: SafetensorsFile, _ path: String
    ) throws -> ([SourceTensor], [String: String]) {
        guard (1...1024).contains(config.num_hidden_layers) else {
            throw FormatError("\(path): \(config.num_hidden_layers) layers are impossible")
        }
        var names = fixedNames
        for layer in 0..<config.num_hidden_layers {
            for (ours, theirs) in layerNames {
                for part in ["weight", "bias"] {
                    names.append(("blk.\(layer).\(ours).\(part)", "encoder.layer.\(layer).\(theirs).\(part)"))
                }
            }
        }
        var sourceNames: [String: String] = [:]
        let tensors = try names.map { name, theirs in
            let source = weights.tensors[theirs] != nil ? theirs : "bert." + theirs
            guard let tensor = weights.tensors[source] else {
                throw FormatError("\(path)/model.safetensors: the tensor \(theirs) is missing")
            }
            guard tensor.type != .other else {
                throw FormatError("\(path)/model.safetensors: \(theirs) is not F32, F16 or BF16")
            }
            guard (1...2).contains(tensor.shape.count), tensor.shape.allSatisfy({ $0 > 0 && $0 <= Int(Int32.max) })
            else { throw FormatError("\(path)/model.safetensors: \(theirs) has the shape \(tensor.shape)") }
            sourceNames[name] = source
            let isVector = tensor.shape.count == 1
            let encoding: Encoding = tensor.type == .f16 ? .f16 : tensor.type == .bf16 ? .bf16 : .f32
            return SourceTensor(
                name: name, isVector: isVector, n: tensor.shape[0], k: isVector ? 1 : tensor.shape[1],
                encoding: isVector ? .f32 : encoding)
        }
        return (tensors, sourceNames)
    }

    public func encodedMetadata() throws -> MetadataEncoder {
        var metadata = MetadataEncoder()
        metadata.set("general.architecture", "bert")
        metadata.set("general.name", String(path.split(separator: "/").last ?? "bert"))
        for (key, value) in [
            ("block_count", config.num_hidden_layers), ("embedding_length", config.hidden_size),
            ("attention.head_count", config.num_attention_heads), ("feed_forward_length", config.intermediate_size),
            ("context_length", config.max_position_embeddings),
            ("max_tokens", try maxTokens()),
        ] {
            guard let value = UInt32(exactly: value) else { throw FormatError("\(path): \(key) is \(value)") }
            metadata.set("bert.\(key)", value)
        }
        metadata.set("bert.attention.layer_norm_epsilon", Float(config.layer_norm_eps ?? 1e-12))
        // GGUF's numbers: 1 mean, 2 CLS.
        metadata.set("bert.pooling_type", UInt32(pooling.pooling_mode_cls_token == true ? 2 : 1))
        metadata.set("bert.normalize", try isNormalized())
        tokenizer.encode(into: &metadata)
        return metadata
    }

    /// Tokens of a text at most, [CLS] and [SEP] included.
    private func maxTokens() throws -> Int {
        let sentence = try Self.optional(Sentence.self, path, "sentence_bert_config.json")
        return min(sentence?.max_seq_length ?? config.max_position_embeddings, config.max_position_embeddings)
    }

    /// sentence-transformers say so in modules.json; without it embeddings are normalized, as nearly all users want.
    private func isNormalized() throws -> Bool {
        guard let modules = try Self.optional([Module].self, path, "modules.json") else { return true }
        return modules.contains { $0.type.hasSuffix("Normalize") }
    }

    public func read(_ tensor: SourceTensor, channel: Int, into out: UnsafeMutablePointer<Float>) throws {
        guard let name = sourceNames[tensor.name], let stored = weights.tensors[name] else {
            throw FormatError("\(path): the tensor \(tensor.name) is missing")
        }
        let count = tensor.isVector ? tensor.n : tensor.k
        weights.read(stored, from: channel * count, count: count, into: out)
    }

    public func copy(_ tensor: SourceTensor, to writer: EbbWriter, progress: (Int) -> Void) throws {
        try copyFloats(tensor, as: tensor.encoding, to: writer, progress: progress)
    }
}

/// The parts of a Hugging Face tokenizer.json that describe a WordPiece tokenizer.
struct WordPieceFile: Sendable {
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
