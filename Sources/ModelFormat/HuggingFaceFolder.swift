import Foundation
import Quantization

/// A folder as Hugging Face models come: config.json, model.safetensors, tokenizer.json, and what sentence-transformers
/// puts beside them (``SentenceModules``). The BERT family is read; tensors get the names that GGUF gives them. What Ebb
/// would compute without is refused by name: every key of the configuration and every tensor is accounted for.
public struct HuggingFaceFolder: ModelSource {
    public let path: String
    public let tensors: [SourceTensor]
    private let files: [SafetensorsFile]
    private let stored: [String: (file: SafetensorsFile, tensor: SafetensorsFile.Tensor)]
    private let config: Config
    private let modules: SentenceModules
    private let tokenizer: any FolderTokenizer

    struct Config: Decodable {
        var model_type: String?
        var hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: Int
        var max_position_embeddings, vocab_size: Int
        var type_vocab_size: Int?
        var layer_norm_eps: Double?
    }

    public var format: String { "safetensors" }
    public var byteCount: Int { files.reduce(0) { $0 + $1.file.bytes.count } }

    /// - Throws: ``FormatError`` where a file is missing, or holds what Ebb does not run.
    public init(path: String) throws {
        self.path = path
        modules = try SentenceModules(folder: path)
        let folder = modules.transformerFolder
        let file = try FolderFile(folder, "config.json")
        config = try file.decode(Config.self)
        let family = config.model_type ?? "none"
        guard family == "bert" else {
            throw FormatError(
                "\(path): a folder of the model type \"\(family)\" is not supported (bert is; convert others to GGUF)")
        }
        try Self.known.check(file)
        tokenizer = try TokenizerJSON.open(folder: folder)
        guard tokenizer.count == config.vocab_size else {
            throw FormatError(
                "\(path): tokenizer.json has \(tokenizer.count) tokens, config.json says \(config.vocab_size)")
        }
        let weights = try SafetensorsFile(folder: folder)
        var found = try Self.encoderTensors(config, weights)
        var files = [weights]
        for (index, dense) in modules.denses.enumerated() {
            let weights = try SafetensorsFile(folder: dense.folder)
            files.append(weights)
            found += try dense.tensors(index, weights)
        }
        (self.files, tensors) = (files, found.map(\.source))
        stored = Dictionary(uniqueKeysWithValues: found.map { ($0.source.name, ($0.file, $0.tensor)) })
        try modules.demandWidths(from: config.hidden_size)
    }

    /// The keys of a BERT's config.json.
    private static let known = KnownJSON(
        used: [
            "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "max_position_embeddings", "vocab_size", "type_vocab_size", "layer_norm_eps",
        ],
        harmless: [
            // Where it comes from, and with what it was written.
            "_name_or_path", "_commit_hash", "name", "architectures", "transformers_version", "tokenizer_class",
            "language",
            "transformers.js_config", "torch_dtype", "dtype", "torchscript", "attn_implementation",
            "_attn_implementation", "_attn_implementation_autoset",
            // Training.
            "attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "initializer_range",
            "gradient_checkpointing", "layerdrop", "finetuning_task", "problem_type", "task_specific_params",
            // How the original is run, not what comes out.
            "use_cache", "chunk_size_feed_forward", "output_attentions", "output_hidden_states", "output_past",
            "return_dict", "use_return_dict", "output_scores", "return_dict_in_generate", "xla_device",
            "tf_legacy_loss", "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
            "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
            "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences",
            "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
            "suppress_tokens", "begin_suppress_tokens", "decoder_start_token_id", "prefix",
            // Token ids: the tokenizer says them.
            "pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "mask_token_id",
            "unk_token_id",
            // Heads after the encoder, which embeddings do not pass.
            "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
            "pooler_size_per_head", "pooler_type", "id2label", "label2id", "num_labels", "tie_word_embeddings",
            "tie_encoder_decoder",
        ],
        neutral: [
            "hidden_act": [.null, .text("gelu")], "position_embedding_type": [.null, .text("absolute")],
            "is_decoder": [.null, .bool(false)], "add_cross_attention": [.null, .bool(false)],
            "is_encoder_decoder": [.null, .bool(false)], "cross_attention_hidden_size": [.null],
            "pruned_heads": [.null, .empty], "use_bfloat16": [.null, .bool(false)], "auto_map": [.null, .empty],
            "quantization_config": [.null],
        ])

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

    /// Tensors that embeddings do not need, without `bert.`: a buffer of 0, 1, 2, …, the pooler that BertModel has for
    /// classifiers, and the heads of pre-training.
    private static func isHarmless(_ name: String) -> Bool {
        let name = name.hasPrefix("bert.") ? String(name.dropFirst(5)) : name
        return name == "embeddings.position_ids" || name.hasPrefix("pooler.dense.") || name.hasPrefix("cls.")
    }

    /// Under which names a tensor may be stored: as a part of a larger model, and as TensorFlow called the norms.
    private static func spellings(_ name: String) -> [String] {
        let old = name.replacingOccurrences(of: "LayerNorm.weight", with: "LayerNorm.gamma")
            .replacingOccurrences(of: "LayerNorm.bias", with: "LayerNorm.beta")
        return [name, "bert." + name, old, "bert." + old]
    }

    private static func encoderTensors(_ config: Config, _ weights: SafetensorsFile) throws -> [StoredTensor] {
        let path = weights.file.path
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
        var used: Set<String> = []
        let tensors = try names.map { name, theirs in
            guard let source = spellings(theirs).first(where: { weights.tensors[$0] != nil }) else {
                throw FormatError("\(path): the tensor \(theirs) is missing")
            }
            used.insert(source)
            return try weights.stored(source, as: name)
        }
        if let unknown = weights.tensors.keys.filter({ !used.contains($0) && !isHarmless($0) }).min() {
            throw FormatError(
                "\(path): the tensor \(unknown) is not used by bert as Ebb runs it; it would be left out, and results differ"
            )
        }
        return tensors
    }

    public func encodedMetadata(except: Set<String>) throws -> MetadataEncoder {
        var metadata = MetadataEncoder()
        metadata.set("general.architecture", "bert")
        metadata.set("general.name", String(path.split(separator: "/").last ?? "bert"))
        for (key, value) in [
            ("block_count", config.num_hidden_layers), ("embedding_length", config.hidden_size),
            ("attention.head_count", config.num_attention_heads), ("feed_forward_length", config.intermediate_size),
            ("context_length", config.max_position_embeddings), ("max_tokens", maxTokens),
        ] {
            guard let value = UInt32(exactly: value) else { throw FormatError("\(path): \(key) is \(value)") }
            metadata.set("bert.\(key)", value)
        }
        metadata.set("bert.attention.layer_norm_epsilon", Float(config.layer_norm_eps ?? 1e-12))
        metadata.set("bert.pooling_type", modules.pooling.rawValue)
        if !modules.denses.isEmpty { metadata.set("bert.dense.activations", modules.denses.map(\.activation.rawValue)) }
        metadata.set("bert.normalize", modules.normalizes)
        try tokenizer.encode(into: &metadata)
        return metadata
    }

    /// Tokens of a text at most, [CLS] and [SEP] included.
    private var maxTokens: Int {
        min(
            modules.maxTokens ?? tokenizer.maxTokens ?? config.max_position_embeddings,
            config.max_position_embeddings)
    }

    public func read(_ tensor: SourceTensor, channel: Int, into out: UnsafeMutablePointer<Float>) throws {
        guard let (file, stored) = stored[tensor.name] else {
            throw FormatError("\(path): the tensor \(tensor.name) is missing")
        }
        let count = tensor.isVector ? tensor.n : tensor.k
        file.read(stored, from: channel * count, count: count, into: out)
    }

    public func copy(_ tensor: SourceTensor, to writer: EbbWriter, progress: (Int) -> Void) throws {
        try copyFloats(tensor, as: tensor.encoding, to: writer, progress: progress)
    }
}

/// A tensor under its name in the container, and where it lies.
typealias StoredTensor = (source: SourceTensor, file: SafetensorsFile, tensor: SafetensorsFile.Tensor)

extension SafetensorsFile {
    /// - Throws: ``FormatError`` where it is missing, or no matrix or vector of floats.
    func stored(_ theirs: String, as name: String) throws -> StoredTensor {
        let path = file.path
        guard let tensor = tensors[theirs] else { throw FormatError("\(path): the tensor \(theirs) is missing") }
        guard tensor.type != .other else { throw FormatError("\(path): \(theirs) is not F32, F16 or BF16") }
        guard (1...2).contains(tensor.shape.count), tensor.shape.allSatisfy({ $0 > 0 && $0 <= Int(Int32.max) }) else {
            throw FormatError("\(path): \(theirs) has the shape \(tensor.shape)")
        }
        let isVector = tensor.shape.count == 1
        let encoding: Encoding = tensor.type == .f16 ? .f16 : tensor.type == .bf16 ? .bf16 : .f32
        let source = SourceTensor(
            name: name, isVector: isVector, n: tensor.shape[0], k: isVector ? 1 : tensor.shape[1],
            encoding: isVector ? .f32 : encoding)
        return (source, self, tensor)
    }
}
