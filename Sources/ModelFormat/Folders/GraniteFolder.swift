/// Granite 3 (IBM 2024): Llama with multipliers at four places.
enum GraniteFolder: DecoderFolder {
    static let modelTypes = ["granite"]
    static let architecture = "granite"
    static let modules = DecoderPlan.interleavedAttention + DecoderPlan.feedForwardNorm + DecoderPlan.feedForward

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint)
        try plan.demandHeadsOfHidden()
        try LlamaFolder.addRotation(plan)
        for (key, name) in [
            ("attention.scale", "attention_multiplier"), ("embedding_scale", "embedding_multiplier"),
            ("residual_scale", "residual_multiplier"), ("logit_scale", "logits_scaling"),
        ] {
            guard let value = try config.number(name) else { throw FormatError("\(config.path) lacks \"\(name)\"") }
            guard value != 0 else { throw config.refusal(name, "is 0") }
            plan.metadata[".\(key)"] = .number(Float(value))
        }
        try plan.demandActivation(["silu"])
        try LlamaFolder.demandBiases(plan)
        try plan.addOuter()
        try plan.addLayers(modules)
        return plan
    }
}
