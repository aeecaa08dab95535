/// OLMo 2 (OLMo Team 2024): norms after each part instead of before, and of all queries and all keys of a position.
enum OLMo2Folder: DecoderFolder {
    static let modelTypes = ["olmo2"]
    static let architecture = "olmo2"
    static let modules =
        DecoderPlan.attention.filter { $0.name != "attn_norm" } + DecoderPlan.headNorms + DecoderPlan.feedForward + [
            .init("post_attention_norm", "post_attention_layernorm"),
            .init("post_ffw_norm", "post_feedforward_layernorm"),
        ]

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint)
        try RopeSettings(config, kinds: ["linear", "yarn"]).describe(plan)
        try plan.demandActivation(["silu"])
        try plan.demandLayerTypes { _ in false }
        config.demand(["attention_bias": [.bool(false)], "sliding_window": []])
        try plan.addOuter()
        try plan.addLayers(modules)
        return plan
    }
}

/// OLMoE (Muennighoff et al. 2024): a mixture of experts in every layer, and norms of all queries and all keys of a
/// position.
enum OLMoEFolder: DecoderFolder {
    static let modelTypes = ["olmoe"]
    static let architecture = "olmoe"
    static let modules = DecoderPlan.attention + DecoderPlan.headNorms + DecoderPlan.feedForwardNorm

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint, usual: .init(epsilon: 1e-5))
        try RopeSettings(config, kinds: ["linear", "yarn"]).describe(plan)
        try plan.demandActivation(["silu"])
        // In this architecture the weights of the chosen experts are left as they are.
        config.demand([
            "attention_bias": [.bool(false)], "clip_qkv": [], "norm_topk_prob": [.bool(false)],
        ])
        try plan.addOuter()
        try plan.addMixture(count: config.required("num_experts", limit: 4096))
        try plan.addLayers(modules)
        return plan
    }
}
