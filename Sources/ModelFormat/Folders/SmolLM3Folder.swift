/// SmolLM3 (Hugging Face 2025): Llama, without RoPE in every fourth layer.
enum SmolLM3Folder: DecoderFolder {
    static let modelTypes = ["smollm3"]
    static let architecture = "smollm3"
    static let modules = DecoderPlan.interleavedAttention + DecoderPlan.feedForwardNorm + DecoderPlan.feedForward

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint, usual: .init(keyValueHeads: 4))
        try LlamaFolder.addRotation(plan, usualBase: 2_000_000)
        try demandRotatedLayers(plan)
        try plan.demandLayerTypes { _ in false }
        config.allow(["max_window_layers"])
        config.demand(["use_sliding_window": [.bool(false)], "sliding_window": []])
        try plan.demandActivation(["silu"])
        try LlamaFolder.demandBiases(plan)
        try plan.addOuter(isTied: true)
        try plan.addLayers(modules)
        return plan
    }

    /// No key of GGUF's says which layers rotate: it is always all but every fourth.
    private static func demandRotatedLayers(_ plan: DecoderPlan) throws {
        plan.config.demand(["no_rope_layer_interval": [.number(4)]])
        guard let rotated = try plan.config.numbers("no_rope_layers"), !rotated.isEmpty else { return }
        guard rotated == (0..<plan.layers).map({ ($0 + 1) % 4 == 0 ? 0 : 1 }) else {
            throw plan.config.refusal("no_rope_layers", "leaves out RoPE in other layers than every fourth")
        }
    }
}
