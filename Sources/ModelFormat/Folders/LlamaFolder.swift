/// Llama (Touvron et al. 2023) and Mistral (Jiang et al. 2023). Checkpoints rotate pairs half a head apart, this family
/// neighbours.
enum LlamaFolder: DecoderFolder {
    static let modelTypes = ["llama", "mistral"]
    static let architecture = "llama"
    static let modules = DecoderPlan.interleavedAttention + DecoderPlan.feedForwardNorm + DecoderPlan.feedForward

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint)
        try addRotation(plan)
        // Mistral's first models see a window in every layer.
        if let window = try config.count("sliding_window") {
            plan.metadata[".attention.sliding_window"] = .count(UInt32(window))
        }
        try plan.demandActivation(["silu"])
        try demandBiases(plan)
        try plan.addOuter()
        try plan.addLayers(modules)
        return plan
    }

    /// What llama and its next of kin say of RoPE and of the vocabulary.
    static func addRotation(_ plan: DecoderPlan, usualBase: Double? = nil) throws {
        let rope = try RopeSettings(plan.config, kinds: ["linear", "yarn", "llama3"], usualBase: usualBase)
        try rope.describe(plan)
        plan.metadata[".vocab_size"] = .count(UInt32(try plan.config.required("vocab_size")))
        plan.metadata[".rope.dimension_count"] = .count(UInt32(plan.headDim))
    }

    /// Biases that the configuration promises have to be there.
    static func demandBiases(_ plan: DecoderPlan) throws {
        for (key, modules) in [
            ("attention_bias", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]),
            ("mlp_bias", ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]),
        ] where try plan.config.flag(key) == true {
            if let module = modules.first(where: { !plan.checkpoint.has("model.layers.0.\($0).bias") }) {
                throw plan.config.refusal(key, "is true, but the tensor model.layers.0.\(module).bias is missing")
            }
        }
    }
}
