/// The config.json and the tensors of BERT, and of RoBERTa and XLM-R, which are BERTs to GGUF.
struct BertFolder: EncoderFolderFamily {
    static let modelTypes = ["bert", "roberta", "xlm-roberta", "camembert"]
    static let architecture = "bert"
    static let prefixes = ["bert.", "roberta."]
    static let known = KnownJSON.encoder(
        used: [
            "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "max_position_embeddings", "vocab_size", "type_vocab_size", "layer_norm_eps", "pad_token_id",
        ], neutral: ["hidden_act": [.null, .text("gelu")], "auto_map": [.null, .empty]])

    private struct Config: Decodable {
        var model_type: String
        var hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: Int
        var max_position_embeddings, vocab_size: Int
        var layer_norm_eps: Double?
        var pad_token_id: Int?
    }

    private let config: Config
    /// RoBERTa's positions follow that of the padding token.
    private let firstPosition: Int

    init(_ file: FolderFile) throws {
        config = try file.decode(Config.self)
        firstPosition = config.model_type == "bert" ? 0 : (config.pad_token_id ?? 1) + 1
        guard firstPosition >= 0, config.max_position_embeddings > firstPosition else {
            throw FormatError(
                "\(file.path): of \(config.max_position_embeddings) positions none is left after the \(firstPosition) before the first"
            )
        }
    }

    var layers: Int { config.num_hidden_layers }
    var hidden: Int { config.hidden_size }
    var heads: Int { config.num_attention_heads }
    var feedForward: Int { config.intermediate_size }
    var positions: Int { config.max_position_embeddings - firstPosition }
    var vocabulary: Int { config.vocab_size }
    var isPadded: Bool { config.model_type != "bert" }
    var epsilon: Double { config.layer_norm_eps ?? (firstPosition == 0 ? 1e-12 : 1e-5) }

    var tensors: [EncoderTensor] {
        var all = [
            EncoderTensor.weight("token_embd", "embeddings.word_embeddings"),
            EncoderTensor(
                ours: "position_embd.weight", theirs: "embeddings.position_embeddings.weight", firstRow: firstPosition),
            .weight("token_types", "embeddings.token_type_embeddings"),
        ]
        all += EncoderTensor.pair("token_embd_norm", "embeddings.LayerNorm")
        for layer in 0..<layers {
            for (ours, theirs) in [
                ("attn_q", "attention.self.query"), ("attn_k", "attention.self.key"),
                ("attn_v", "attention.self.value"), ("attn_output", "attention.output.dense"),
                ("attn_output_norm", "attention.output.LayerNorm"), ("ffn_up", "intermediate.dense"),
                ("ffn_down", "output.dense"), ("layer_output_norm", "output.LayerNorm"),
            ] {
                all += EncoderTensor.pair("blk.\(layer).\(ours)", "encoder.layer.\(layer).\(theirs)")
            }
        }
        return all
    }

    /// BERT's pooler comes before its classifier; RoBERTa's has a layer of its own.
    var head: [EncoderTensor] {
        firstPosition == 0
            ? EncoderTensor.pair("cls", "pooler.dense") + EncoderTensor.pair("cls.output", "classifier")
            : EncoderTensor.pair("cls", "classifier.dense") + EncoderTensor.pair("cls.output", "classifier.out_proj")
    }

    /// A buffer of 0, 1, 2, …, the pooler of models that classify nothing, and the heads of pre-training.
    func isHarmless(_ name: String) -> Bool {
        name == "embeddings.position_ids"
            || ["pooler.dense.", "cls.", "lm_head."].contains { name.hasPrefix($0) }
    }

    func describe(_ metadata: inout FolderMetadata) {
        // `<s> a </s></s> b </s>`.
        if firstPosition != 0 { metadata["tokenizer.ggml.add_sep_token"] = .flag(true) }
    }
}
