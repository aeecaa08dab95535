import ModelFormat

/// What a family knows of the metadata keys in its namespace (`llama.…`). Any other key there is a setting that would be
/// left out, and is refused.
struct KnownKeys {
    /// Keys that the family reads.
    var used: Set<String>
    /// Keys that no result depends on.
    var harmless: Set<String> = []
    /// Keys that change nothing with these numbers (or flags, as 0 and 1), and are refused with others.
    var neutral: [String: [Float]] = [:]

    /// Those of llama and its relatives, which ``WeightLoader/config(_:)`` reads.
    static let relatives = KnownKeys(
        used: [
            "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
            "attention.head_count_kv", "attention.key_length", "attention.value_length",
            "attention.layer_norm_rms_epsilon", "rope.dimension_count", "rope.freq_base", "rope.scaling.type",
            "rope.scaling.factor", "rope.scale_linear", "rope.scaling.attn_factor",
            "rope.scaling.original_context_length", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
            "rope.scaling.yarn_attn_factor",
        ],
        harmless: [
            // What the embedding's shape says.
            "vocab_size",
            // How the file was made.
            "tensor_data_layout",
            "rope.scaling.finetuned",
        ],
        neutral: [
            "rope.scaling.yarn_ext_factor": [1], "rope.scaling.yarn_log_multiplier": [0], "expert_count": [0],
            "expert_used_count": [0], "pooling_type": [0],
            "attention.causal": [1], "attention.max_alibi_bias": [0], "attention.clamp_kqv": [0],
            "attention.scale": [0], "embedding_scale": [0, 1], "residual_scale": [0, 1], "logit_scale": [0, 1],
            "attn_logit_softcapping": [0], "final_logit_softcapping": [0], "use_parallel_residual": [0],
        ])

    /// Those of mixtures of experts.
    static let mixtures = relatives.adding(
        used: ["expert_count", "expert_used_count", "expert_feed_forward_length"],
        neutral: [
            "expert_shared_count": [0], "expert_group_count": [0, 1], "expert_group_used_count": [0, 1],
            "expert_weights_scale": [0, 1],
        ])

    /// These and more.
    func adding(
        used: Set<String> = [], harmless: Set<String> = [], neutral: [String: [Float]] = [:]
    ) -> KnownKeys {
        var all = self
        all.used.formUnion(used)
        all.harmless.formUnion(harmless)
        all.neutral.merge(neutral) { _, new in new }
        return all
    }

    /// Keys in other namespaces than the architecture's that say what a file is, or how its text becomes tokens.
    static let general: [String: KnownKeys] = [
        // Whatever else a file says of itself in general terms changes nothing.
        "general": KnownKeys(used: ["architecture", "alignment"], neutral: ["quantization_version": [1, 2]]),
        "tokenizer": KnownKeys(
            used: [
                "chat_template", "ggml.model", "ggml.pre", "ggml.tokens", "ggml.token_type", "ggml.merges",
                "ggml.scores",
                "ggml.bos_token_id", "ggml.eos_token_id", "ggml.eot_token_id", "ggml.eom_token_id",
                "ggml.unknown_token_id", "ggml.add_bos_token", "ggml.add_eos_token", "ggml.add_space_prefix",
                "ggml.cls_token_id", "ggml.separator_token_id", "ggml.seperator_token_id",
            ],
            harmless: [
                // Templates beside the one that is used.
                "chat_templates",
                // The same tokenizer once more, as its maker wrote it.
                "huggingface.json", "ggml.token_type_count", "ggml.added_tokens",
                // Tokens that nothing here puts in or looks for.
                "ggml.padding_token_id", "ggml.mask_token_id", "ggml.prefix_token_id", "ggml.suffix_token_id",
                "ggml.middle_token_id",
                "ggml.fim_pre_token_id", "ggml.fim_suf_token_id", "ggml.fim_mid_token_id", "ggml.fim_pad_token_id",
                "ggml.fim_rep_token_id", "ggml.fim_sep_token_id",
            ],
            neutral: ["ggml.add_sep_token": [0], "ggml.remove_extra_whitespaces": [0]]),
        "adapter": KnownKeys(used: []), "clip": KnownKeys(used: []),
    ]

    /// The keys of a namespace; those of `tokenizer` that one kind of tokenizer reads are known with that kind alone.
    /// So are those that only pairs of texts need, with encoders.
    static func general(_ space: String, tokenizer model: String?, isEncoder: Bool) -> KnownKeys? {
        guard space == "tokenizer" else { return general[space] }
        let own = model.flatMap { ofTokenizers[$0] } ?? []
        return general[space]?.adding(used: isEncoder ? own.union(["ggml.add_sep_token"]) : own)
    }

    private static let ofTokenizers: [String: Set<String>] = [
        "t5": ["ggml.precompiled_charsmap", "ggml.remove_extra_whitespaces"],
        "bert": ["ggml.normalizer.lowercase", "ggml.normalizer.strip_accents"],
    ]
}
