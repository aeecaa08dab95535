/// The config.json and the tensors of nomic-embed-text 1 and 1.5, whose code lies beside its weights.
struct NomicBertFolder: EncoderFolderFamily {
    static let modelTypes = ["nomic_bert"]
    static let architecture = "nomic-bert"
    static let prefixes = ["bert.", "model."]
    static let known = KnownJSON.encoder(
        used: [
            "model_type", "n_embd", "n_layer", "n_head", "n_inner", "n_positions", "max_trained_positions",
            "vocab_size", "type_vocab_size", "layer_norm_epsilon", "rotary_emb_base",
        ],
        harmless: [
            "attn_pdrop", "embd_pdrop", "resid_pdrop", "summary_activation", "summary_first_dropout",
            "summary_proj_to_labels", "summary_type", "summary_use_proj", "dense_seq_output", "fused_bias_fc",
            "fused_dropout_add_ln", "pad_vocab_size_multiple", "reorder_and_upcast_attn", "use_flash_attn",
            "use_xentropy", "auto_map", "pad_token_id",
        ],
        neutral: [
            "activation_function": [.text("swiglu")], "causal": [.null, .bool(false)],
            "mlp_fc1_bias": [.bool(false)], "mlp_fc2_bias": [.bool(false)], "qkv_proj_bias": [.bool(false)],
            "parallel_block": [.null, .bool(false)], "parallel_block_tied_norm": [.null, .bool(false)],
            "prenorm": [.bool(false)], "rotary_emb_fraction": [.number(1)],
            "rotary_emb_interleaved": [.null, .bool(false)], "rotary_emb_scale_base": [.null],
            "rotary_scaling_factor": [.null], "scale_attn_by_inverse_layer_idx": [.null, .bool(false)],
            "scale_attn_weights": [.null, .bool(true)], "use_rms_norm": [.null, .bool(false)],
            "num_experts": [.null, .number(0)], "moe_every_n_layers": [.null, .number(0)],
        ])

    private struct Config: Decodable {
        var n_embd, n_layer, n_head, n_inner, n_positions, vocab_size: Int
        var max_trained_positions: Int?
        var layer_norm_epsilon, rotary_emb_base: Double?
    }

    private let config: Config

    init(_ file: FolderFile) throws { config = try file.decode(Config.self) }

    var layers: Int { config.n_layer }
    var hidden: Int { config.n_embd }
    var heads: Int { config.n_head }
    var feedForward: Int { config.n_inner }
    /// Beyond what it was trained with, the original changes its rotations by the text's length.
    var positions: Int { min(config.n_positions, config.max_trained_positions ?? 2048) }
    var vocabulary: Int { config.vocab_size }
    var epsilon: Double { config.layer_norm_epsilon ?? 1e-12 }

    var tensors: [EncoderTensor] {
        var all = [
            EncoderTensor.weight("token_embd", "embeddings.word_embeddings"),
            .weight("token_types", "embeddings.token_type_embeddings"),
        ]
        all += EncoderTensor.pair("token_embd_norm", "emb_ln")
        for layer in 0..<layers {
            let (ours, theirs) = ("blk.\(layer).", "encoder.layers.\(layer).")
            for (a, b) in [
                ("attn_qkv", "attn.Wqkv"), ("attn_output", "attn.out_proj"), ("ffn_up", "mlp.fc11"),
                ("ffn_gate", "mlp.fc12"), ("ffn_down", "mlp.fc2"),
            ] {
                all.append(.weight(ours + a, theirs + b))
            }
            all += EncoderTensor.pair(ours + "attn_output_norm", theirs + "norm1")
            all += EncoderTensor.pair(ours + "layer_output_norm", theirs + "norm2")
        }
        return all
    }

    var head: [EncoderTensor] { [] }

    /// The pooler and the heads of pre-training.
    func isHarmless(_ name: String) -> Bool { name.hasPrefix("pooler.dense.") || name.hasPrefix("cls.") }

    func describe(_ metadata: inout FolderMetadata) {
        metadata[".rope.freq_base"] = .number(Float(config.rotary_emb_base ?? 10_000))
    }
}
