/// What the Gemma family has in each layer: norms before and after each part. Checkpoints store all norms less 1.
enum GemmaLayers {
    static let modules =
        [
            DecoderPlan.Module("attn_norm", "input_layernorm", adding: 1)
        ] + DecoderPlan.attention.filter { $0.name != "attn_norm" } + DecoderPlan.feedForward + [
            .init("post_attention_norm", "post_attention_layernorm", adding: 1),
            .init("ffn_norm", "pre_feedforward_layernorm", adding: 1),
            .init("post_ffw_norm", "post_feedforward_layernorm", adding: 1),
        ]

    /// Scores are multiplied with head_dim^-1/2, in the largest models with (hidden / heads)^-1/2. GGUF files of the family
    /// do not say so; where the configuration says something else, the key that other families have does.
    static func describeScale(_ plan: DecoderPlan, largest layers: Int) throws {
        guard let said = try plan.config.number("query_pre_attn_scalar") else { return }
        guard said > 0 else { throw plan.config.refusal("query_pre_attn_scalar", "is \(said)") }
        let usual = plan.layers == layers ? plan.hidden / plan.heads : plan.headDim
        if said != Double(usual) { plan.metadata[".attention.scale"] = .number(Float(1 / said.squareRoot())) }
    }
}

/// Gemma 2 (Gemma Team 2024): every other layer sees a window; scores and logits are capped.
enum Gemma2Folder: DecoderFolder {
    static let modelTypes = ["gemma2"]
    static let architecture = "gemma2"
    static let modules = GemmaLayers.modules

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint, usual: .init(headDim: 256))
        let rope = try RopeSettings(config, kinds: [])
        // GGUF files of this family leave it out.
        if let base = rope.base, base != 10_000 { plan.metadata[".rope.freq_base"] = .number(Float(base)) }
        plan.metadata[".attn_logit_softcapping"] = .number(Float(try config.number("attn_logit_softcapping") ?? 0))
        plan.metadata[".final_logit_softcapping"] = .number(Float(try config.number("final_logit_softcapping") ?? 0))
        plan.metadata[".attention.sliding_window"] = .count(
            UInt32(try config.required("sliding_window", usual: 4096)))
        // The window under an older name.
        config.allow(["sliding_window_size"])
        try GemmaLayers.describeScale(plan, largest: 46)
        try plan.demandLayerTypes { $0 % 2 == 0 }
        try plan.demandActivation(["gelu_pytorch_tanh"], keys: ["hidden_activation", "hidden_act"])
        config.demand(["attention_bias": [.bool(false)], "use_bidirectional_attention": [.bool(false)]])
        try plan.addOuter(isTied: true, normAdding: 1)
        try plan.addLayers(modules)
        return plan
    }
}

/// Gemma 3's text part (Gemma Team 2025): five of six layers see a window, with a RoPE base of their own; norms of each
/// head's queries and keys. EmbeddingGemma is one whose tokens see those after them, too.
enum Gemma3Folder: DecoderFolder {
    static let modelTypes = ["gemma3_text", "gemma3"]
    static let architecture = "gemma3"
    static let modules =
        GemmaLayers.modules + [
            .init("attn_q_norm", "self_attn.q_norm", adding: 1), .init("attn_k_norm", "self_attn.k_norm", adding: 1),
        ]

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let seesBothSides = try config.flag("use_bidirectional_attention") ?? false
        let plan = try DecoderPlan(
            seesBothSides ? "gemma-embedding" : architecture, config, checkpoint,
            usual: .init(heads: 8, keyValueHeads: 4, headDim: 256, context: 131_072, epsilon: 1e-6))
        try RopeSettings(config, kinds: ["linear"], usualBase: 1_000_000).describe(plan)
        if let cap = try config.number("final_logit_softcapping"), cap != 0 {
            plan.metadata[".final_logit_softcapping"] = .number(Float(cap))
        }
        try describeWindows(plan)
        try GemmaLayers.describeScale(plan, largest: 62)
        try plan.demandActivation(["gelu_pytorch_tanh"], keys: ["hidden_activation", "hidden_act"])
        config.demand([
            "attention_bias": [.bool(false)], "attn_logit_softcapping": [],
        ])
        plan.isEmbedder = plan.isEmbedder || seesBothSides
        try plan.addOuter(isTied: true, normAdding: 1)
        try plan.addLayers(modules)
        return plan
    }

    /// Every sixth layer sees everything; another pattern gets a key of its own.
    private static func describeWindows(_ plan: DecoderPlan) throws {
        let newer = try plan.config.count("_sliding_window_pattern")
        let pattern = try plan.config.count("sliding_window_pattern") ?? newer
        plan.metadata[".attention.sliding_window"] = .count(
            UInt32(try plan.config.required("sliding_window", usual: 4096)))
        let types = try plan.config.texts("layer_types")
        if let other = types?.first(where: { !["sliding_attention", "full_attention"].contains($0) }) {
            throw plan.config.refusal("layer_types", "has \"\(other.prefix(80))\", which is not supported")
        }
        guard types == nil || types?.count == plan.layers, pattern.map({ $0 > 0 }) ?? true else {
            throw plan.config.refusal("layer_types", "and sliding_window_pattern contradict num_hidden_layers")
        }
        let isLocal =
            types?.map { $0 == "sliding_attention" } ?? (0..<plan.layers).map { ($0 + 1) % (pattern ?? 6) != 0 }
        if isLocal != (0..<plan.layers).map({ ($0 + 1) % 6 != 0 }) {
            plan.metadata[".attention.sliding_window_pattern"] = .flags(isLocal)
        }
    }
}
