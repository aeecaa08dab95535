/// Qwen 2 and 2.5 (Qwen Team 2024): biases on queries, keys and values.
enum Qwen2Folder: DecoderFolder {
    static let modelTypes = ["qwen2"]
    static let architecture = "qwen2"
    static let modules = DecoderPlan.attention + DecoderPlan.feedForwardNorm + DecoderPlan.feedForward

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint)
        try describe(plan)
        try plan.addLayers(modules)
        if let part = ["q", "k", "v"].first(where: { !checkpoint.has("model.layers.0.self_attn.\($0)_proj.bias") }) {
            throw FormatError(
                "\(checkpoint.weights.path): the tensor model.layers.0.self_attn.\(part)_proj.bias is missing")
        }
        return plan
    }

    /// What all of Qwen's say, but for the layers.
    static func describe(_ plan: DecoderPlan) throws {
        try RopeSettings(plan.config, kinds: ["linear", "yarn"]).describe(plan)
        try plan.demandActivation(["silu"])
        try plan.demandLayerTypes { _ in false }
        // The window is used only where the first of these is true.
        plan.config.demand(["use_sliding_window": [.bool(false)], "use_mrope": [.bool(false)]])
        plan.config.allow(["sliding_window", "max_window_layers"])
        try plan.addOuter()
    }
}

/// Qwen 3 (Qwen Team 2025): RMSNorm of each head's queries and keys instead of biases.
enum Qwen3Folder: DecoderFolder {
    static let modelTypes = ["qwen3"]
    static let architecture = "qwen3"
    static let modules =
        DecoderPlan.attention + DecoderPlan.headNorms + DecoderPlan.feedForwardNorm + DecoderPlan.feedForward

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint, usual: .init(headDim: 128))
        try Qwen2Folder.describe(plan)
        config.demand(["attention_bias": [.bool(false)]])
        try plan.addLayers(modules)
        return plan
    }
}

/// Qwen 3 with a mixture of experts in every layer.
enum Qwen3MoEFolder: DecoderFolder {
    static let modelTypes = ["qwen3_moe"]
    static let architecture = "qwen3moe"
    static let modules = DecoderPlan.attention + DecoderPlan.headNorms + DecoderPlan.feedForwardNorm

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint, usual: .init(headDim: 128))
        try Qwen2Folder.describe(plan)
        config.demand([
            "attention_bias": [.bool(false)], "decoder_sparse_step": [.number(1)], "mlp_only_layers": [.empty],
        ])
        // In this architecture the weights of the chosen experts are always brought to a sum of 1.
        guard try config.flag("norm_topk_prob") == true else {
            throw config.refusal("norm_topk_prob", "is not true, which is not supported")
        }
        plan.metadata[".expert_feed_forward_length"] = .count(
            UInt32(try config.required("moe_intermediate_size")))
        try plan.addMixture(count: config.required("num_experts", limit: 4096))
        try plan.addLayers(modules)
        return plan
    }
}
