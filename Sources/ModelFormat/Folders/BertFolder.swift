import Foundation

/// BERT as an encoder of sentences, with what sentence-transformers puts beside it (``SentenceModules``).
enum BertFolder {
    static func contents(_ path: String) throws -> FolderContents {
        let modules = try SentenceModules(folder: path)
        let folder = modules.transformerFolder
        let file = try FolderFile(folder, "config.json")
        let config = FolderSettings(file.path, try file.members())
        let type = try config.text("model_type") ?? "none"
        guard type == "bert" else { throw unsupported(path, type) }
        var metadata = FolderMetadata(architecture: "bert")
        metadata["general.name"] = .text(String(path.split(separator: "/").last ?? "bert"))
        let layers = try describe(config, &metadata)
        let tokenizer = try TokenizerJSON.open(folder: folder)
        let size = try config.required("vocab_size")
        guard tokenizer.count == size else {
            throw FormatError("\(path): tokenizer.json has \(tokenizer.count) tokens, config.json says \(size)")
        }
        try config.finish()
        let positions = try config.required("max_position_embeddings")
        metadata[".max_tokens"] = .count(
            UInt32(clamping: min(modules.maxTokens ?? tokenizer.maxTokens ?? positions, positions)))
        metadata[".pooling_type"] = .count(modules.pooling.rawValue)
        metadata[".normalize"] = .flag(modules.normalizes)
        let weights = try FolderWeights(folder: folder)
        var contents = FolderContents(
            tensors: try encoder(layers, weights), metadata: metadata, tokenizer: tokenizer, ends: tokenizer.ends,
            byteCount: weights.byteCount)
        try addDenses(modules, &contents)
        try modules.demandWidths(from: config.required("hidden_size"))
        return contents
    }

    /// An embedding model of another kind, or a decoder with what only embedding models have.
    private static func unsupported(_ path: String, _ type: String) -> FormatError {
        guard type != "none" else { return HuggingFaceFolder.unsupported(path, type) }
        return FormatError(
            "\(path): modules.json makes an embedding model of it, and only those of the model type bert are supported, "
                + "not \"\(type.prefix(80))\"")
    }

    // MARK: Settings

    private static func describe(_ config: FolderSettings, _ metadata: inout FolderMetadata) throws -> Int {
        let layers = try config.required("num_hidden_layers", limit: 1024)
        for (key, name) in [
            ("embedding_length", "hidden_size"), ("attention.head_count", "num_attention_heads"),
            ("feed_forward_length", "intermediate_size"), ("context_length", "max_position_embeddings"),
        ] {
            metadata[".\(key)"] = .count(UInt32(try config.required(name)))
        }
        metadata[".block_count"] = .count(UInt32(layers))
        metadata[".attention.layer_norm_epsilon"] = .number(Float(try config.number("layer_norm_eps") ?? 1e-12))
        _ = try config.count("type_vocab_size")
        config.allow(FolderSettings.harmless)
        config.allow([
            // The tokenizer says them.
            "bos_token_id", "eos_token_id",
            // Heads after the encoder, which embeddings do not pass.
            "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
            "pooler_size_per_head", "pooler_type", "tie_word_embeddings", "tie_encoder_decoder",
        ])
        config.demand(FolderSettings.neutral)
        config.demand([
            "hidden_act": [.text("gelu")], "position_embedding_type": [.text("absolute")], "quantization_config": [],
        ])
        return layers
    }

    // MARK: Tensors

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

    private static func encoder(_ layers: Int, _ weights: FolderWeights) throws -> [FolderTensor] {
        var names = fixedNames
        for layer in 0..<layers {
            for (ours, theirs) in layerNames {
                for part in ["weight", "bias"] {
                    names.append(("blk.\(layer).\(ours).\(part)", "encoder.layer.\(layer).\(theirs).\(part)"))
                }
            }
        }
        let checkpoint = CheckpointTensors(weights, spellings: spellings)
        let tensors = try names.map { try FolderTensor($0, [try checkpoint.floats($1)]) }
        try checkpoint.finish("bert", harmless: isHarmless)
        return tensors
    }

    /// Under which names a tensor may be stored: as a part of a larger model, and as TensorFlow called the norms.
    private static func spellings(_ name: String) -> [String] {
        let old = name.replacingOccurrences(of: "LayerNorm.weight", with: "LayerNorm.gamma")
            .replacingOccurrences(of: "LayerNorm.bias", with: "LayerNorm.beta")
        return [name, "bert." + name, old, "bert." + old]
    }

    /// Tensors that embeddings do not need, without `bert.`: a buffer of 0, 1, 2, …, the pooler that BertModel has for
    /// classifiers, and the heads of pre-training.
    private static func isHarmless(_ name: String) -> Bool {
        let name = name.hasPrefix("bert.") ? String(name.dropFirst(5)) : name
        return name == "embeddings.position_ids" || name.hasPrefix("pooler.dense.") || name.hasPrefix("cls.")
    }

    private static func addDenses(_ modules: SentenceModules, _ contents: inout FolderContents) throws {
        for (index, dense) in modules.denses.enumerated() {
            let weights = try FolderWeights(folder: dense.folder)
            contents.byteCount += weights.byteCount
            contents.tensors += try dense.tensors(index, weights)
        }
        if !modules.denses.isEmpty {
            contents.metadata[".dense.activations"] = .texts(modules.denses.map(\.activation.rawValue))
        }
    }
}
