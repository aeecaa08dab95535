import Glibc

/// Phi 3 and 4 (Microsoft 2024): queries, keys and values in one product, gate and up in another, as GGUF keeps them.
enum Phi3Folder: DecoderFolder {
    static let modelTypes = ["phi3"]
    static let architecture = "phi3"
    static let modules: [DecoderPlan.Module] = [
        .init("attn_norm", "input_layernorm"), .init("attn_qkv", "self_attn.qkv_proj"),
        .init("attn_output", "self_attn.o_proj"), .init("ffn_norm", "post_attention_layernorm"),
        .init("ffn_up", "mlp.gate_up_proj"), .init("ffn_down", "mlp.down_proj"),
    ]

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint)
        try plan.demandHeadsOfHidden()
        try describeRotation(plan)
        // Without a window it is 0, by which Phi 4 is told from others.
        plan.metadata[".attention.sliding_window"] = .count(UInt32(try config.count("sliding_window") ?? 0))
        try plan.demandActivation(["silu"])
        try plan.demandLayerTypes { _ in false }
        config.demand([
            "attention_bias": [.bool(false)], "mlp_bias": [.bool(false)], "lm_head_bias": [.bool(false)],
            "full_attn_mod": [.number(1)], "interpolate_factor": [.number(1)],
        ])
        // The code beside the weights is this model's.
        config.allow(["auto_map"])
        try plan.addOuter()
        try plan.addLayers(modules)
        return plan
    }

    /// LongRoPE (Ding et al. 2024): one set of factors for texts as long as the first context, another for longer ones.
    private static func describeRotation(_ plan: DecoderPlan) throws {
        let rope = try RopeSettings(plan.config, kinds: ["longrope"], usualBase: 10_000)
        let outer = try plan.config.number("partial_rotary_factor")
        let part = try rope.scaling?.number("partial_rotary_factor") ?? outer ?? 1
        guard part > 0, part <= 1 else { throw plan.config.refusal("partial_rotary_factor", "is \(part)") }
        let rotated = Int(part * Double(plan.hidden)) / plan.heads
        let (context, original) = (try plan.config.required("max_position_embeddings"), try rope.originalContext())
        guard original > 1 else { throw plan.config.refusal("original_max_position_embeddings", "is \(original)") }
        plan.metadata[".rope.scaling.original_context_length"] = .count(UInt32(original))
        plan.metadata[".rope.dimension_count"] = .count(UInt32(rotated))
        plan.metadata[".rope.freq_base"] = .number(Float(rope.base ?? 10_000))
        guard rope.type == "longrope", let scaling = rope.scaling else { return }
        let scale = Double(context) / Double(original)
        let usual = scale > 1 ? sqrt(1 + log(scale) / log(Double(original))) : 1
        plan.metadata[".rope.scaling.attn_factor"] = .number(Float(try rope.positive("attention_factor", usual: usual)))
        for kind in ["long", "short"] {
            guard let factors = try scaling.numbers("\(kind)_factor"), factors.count == rotated / 2 else {
                throw scaling.refusal("\(kind)_factor", "is no list of \(rotated / 2) numbers")
            }
            guard factors.allSatisfy({ Float($0) > 0 && Float($0).isFinite }) else {
                throw scaling.refusal("\(kind)_factor", "holds 0, a negative number or one that is no number")
            }
            try plan.add(FolderTensor("rope_factors_\(kind).weight", values: factors.map { Float($0) }))
        }
    }
}
