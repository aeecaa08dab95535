/// ModernBERT's config.json and tensors.
struct ModernBertFolder: EncoderFolderFamily {
    static let modelTypes = ["modernbert"]
    static let architecture = "modern-bert"
    static let prefixes = ["model."]
    static let known = KnownJSON.encoder(
        used: [
            "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "max_position_embeddings", "vocab_size", "norm_eps", "global_rope_theta", "local_rope_theta",
            "local_attention", "global_attn_every_n_layers", "hidden_activation", "classifier_pooling",
        ],
        harmless: ["layer_norm_eps", "pad_token_id"],
        neutral: [
            "attention_bias": [.null, .bool(false)], "mlp_bias": [.null, .bool(false)],
            "norm_bias": [.null, .bool(false)], "classifier_bias": [.null, .bool(false)],
            "classifier_activation": [.null, .text("gelu")], "auto_map": [.null, .empty],
        ])

    private struct Config: Decodable {
        var hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: Int
        var max_position_embeddings, vocab_size: Int
        var norm_eps, global_rope_theta, local_rope_theta: Double?
        var local_attention, global_attn_every_n_layers: Int?
        var hidden_activation, classifier_pooling: String?
    }

    private let config: Config

    init(_ file: FolderFile) throws {
        config = try file.decode(Config.self)
        let pooling = config.classifier_pooling ?? "cls"
        guard ["cls", "mean"].contains(pooling) else {
            throw FormatError(
                "\(file.path): classifier_pooling is \"\(pooling.prefix(80))\" (cls and mean are possible)")
        }
    }

    var layers: Int { config.num_hidden_layers }
    var hidden: Int { config.hidden_size }
    var heads: Int { config.num_attention_heads }
    var feedForward: Int { config.intermediate_size }
    var positions: Int { config.max_position_embeddings }
    var vocabulary: Int { config.vocab_size }
    var epsilon: Double { config.norm_eps ?? 1e-5 }

    var tensors: [EncoderTensor] {
        var all = [
            EncoderTensor.weight("token_embd", "embeddings.tok_embeddings"),
            .weight("token_embd_norm", "embeddings.norm"),
            .weight("output_norm", "final_norm"),
        ]
        for layer in 0..<layers {
            for (ours, theirs) in [
                ("attn_norm", "attn_norm"), ("attn_qkv", "attn.Wqkv"), ("attn_output", "attn.Wo"),
                ("ffn_norm", "mlp_norm"), ("ffn_up", "mlp.Wi"), ("ffn_down", "mlp.Wo"),
            ] {
                // The first layer reads the embeddings, which are normalized already.
                var tensor = EncoderTensor.weight("blk.\(layer).\(ours)", "layers.\(layer).\(theirs)")
                tensor.isOptional = layer == 0 && ours == "attn_norm"
                all.append(tensor)
            }
        }
        return all
    }

    var head: [EncoderTensor] {
        [.weight("cls", "head.dense"), .weight("cls.norm", "head.norm")]
            + EncoderTensor.pair("cls.output", "classifier")
    }

    /// The heads of pre-training.
    func isHarmless(_ name: String) -> Bool { name.hasPrefix("decoder.") || name.hasPrefix("head.") }

    func describe(_ metadata: inout FolderMetadata) {
        metadata[".rope.freq_base"] = .number(Float(config.global_rope_theta ?? 160_000))
        metadata[".rope.freq_base_swa"] = .number(Float(config.local_rope_theta ?? 10_000))
        metadata[".attention.sliding_window"] = .count(UInt32(clamping: config.local_attention ?? 128))
        metadata[".attention.sliding_window_pattern"] = .count(
            UInt32(clamping: config.global_attn_every_n_layers ?? 3))
        metadata[".hidden_activation"] = .text(config.hidden_activation ?? "gelu")
        metadata[".classifier.pooling_type"] = .count(config.classifier_pooling == "mean" ? 1 : 2)
    }
}
