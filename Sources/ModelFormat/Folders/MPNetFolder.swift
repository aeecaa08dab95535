/// MPNet's config.json and tensors.
struct MPNetFolder: EncoderFolderFamily {
    static let modelTypes = ["mpnet"]
    static let architecture = "mpnet"
    static let prefixes = ["mpnet."]
    static let known = KnownJSON.encoder(
        used: [
            "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "max_position_embeddings", "vocab_size", "layer_norm_eps", "relative_attention_num_buckets", "pad_token_id",
        ], neutral: ["hidden_act": [.null, .text("gelu")], "auto_map": [.null, .empty]])

    private struct Config: Decodable {
        var hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: Int
        var max_position_embeddings, vocab_size: Int
        var relative_attention_num_buckets: Int?
        var layer_norm_eps: Double?
    }

    /// Tokens' positions follow that of the padding token, which transformers' MPNet has fixed.
    private static let firstPosition = 2

    private let config: Config

    init(_ file: FolderFile) throws {
        config = try file.decode(Config.self)
        guard config.max_position_embeddings > Self.firstPosition else {
            throw FormatError("\(file.path): max_position_embeddings is \(config.max_position_embeddings)")
        }
    }

    var layers: Int { config.num_hidden_layers }
    var hidden: Int { config.hidden_size }
    var heads: Int { config.num_attention_heads }
    var feedForward: Int { config.intermediate_size }
    var positions: Int { config.max_position_embeddings - Self.firstPosition }
    var vocabulary: Int { config.vocab_size }
    var epsilon: Double { config.layer_norm_eps ?? 1e-12 }

    var tensors: [EncoderTensor] {
        var all = [
            EncoderTensor.weight("token_embd", "embeddings.word_embeddings"),
            EncoderTensor(
                ours: "position_embd.weight", theirs: "embeddings.position_embeddings.weight",
                firstRow: Self.firstPosition),
            .weight("attn_rel_b", "encoder.relative_attention_bias"),
        ]
        all += EncoderTensor.pair("token_embd_norm", "embeddings.LayerNorm")
        for layer in 0..<layers {
            for (ours, theirs) in [
                ("attn_q", "attention.attn.q"), ("attn_k", "attention.attn.k"), ("attn_v", "attention.attn.v"),
                ("attn_output", "attention.attn.o"), ("attn_output_norm", "attention.LayerNorm"),
                ("ffn_up", "intermediate.dense"), ("ffn_down", "output.dense"),
                ("layer_output_norm", "output.LayerNorm"),
            ] {
                all += EncoderTensor.pair("blk.\(layer).\(ours)", "encoder.layer.\(layer).\(theirs)")
            }
        }
        return all
    }

    var head: [EncoderTensor] {
        EncoderTensor.pair("cls", "classifier.dense") + EncoderTensor.pair("cls.output", "classifier.out_proj")
    }

    /// A buffer of 0, 1, 2, …, the pooler, and the head of pre-training.
    func isHarmless(_ name: String) -> Bool {
        name == "embeddings.position_ids" || name.hasPrefix("pooler.dense.") || name.hasPrefix("lm_head.")
    }

    func describe(_ metadata: inout FolderMetadata) {
        metadata[".attention.relative_buckets_count"] = .count(
            UInt32(clamping: config.relative_attention_num_buckets ?? 32))
    }
}
