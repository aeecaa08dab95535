import Quantization

/// gpt-oss (OpenAI 2025): experts with biases in every layer, whose gates and ups lie row by row in turn; every other layer
/// sees a window; a learned score that attention may spend itself on.
enum GPTOSSFolder: DecoderFolder {
    static let modelTypes = ["gpt_oss"]
    static let architecture = "gpt-oss"
    static let modules =
        DecoderPlan.attention + [
            .init("post_attention_norm", "post_attention_layernorm"), .init("ffn_gate_inp", "mlp.router"),
        ]

    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan {
        let plan = try DecoderPlan(architecture, config, checkpoint, usual: .init(keyValueHeads: 8, headDim: 64))
        let rope = try RopeSettings(config, kinds: ["yarn"], usualBase: 150_000)
        try rope.describe(plan)
        // The bounds of YaRN's ramp are rounded in this architecture, whatever this says.
        rope.scaling?.demand(["truncate": [.bool(true), .bool(false)]])
        plan.metadata[".attention.sliding_window"] = .count(UInt32(try config.required("sliding_window", usual: 128)))
        plan.metadata[".expert_feed_forward_length"] = .count(UInt32(try config.required("intermediate_size")))
        try plan.demandLayerTypes { $0 % 2 == 0 }
        try plan.demandActivation(["silu"])
        config.demand(["swiglu_limit": [.number(7)], "attention_bias": [.bool(true)]])
        // Said again elsewhere.
        config.allow(["initial_context_length", "experts_per_token"])
        let count = try config.required("num_local_experts", limit: 4096)
        try plan.describeMixture(count: count)
        try plan.addOuter()
        try plan.addLayers(modules, asFloats: ["ffn_gate_inp"])
        for layer in 0..<plan.layers { try addLayer(layer, count, plan) }
        return plan
    }

    private static func addLayer(_ layer: Int, _ count: Int, _ plan: DecoderPlan) throws {
        let (ours, theirs) = ("blk.\(layer)", "model.layers.\(layer)")
        let sinks = try plan.checkpoint.floats("\(theirs).self_attn.sinks")
        try plan.add(FolderTensor("\(ours).attn_sinks.weight", [sinks]))
        let experts = "\(theirs).mlp.experts"
        let both = try matrix("\(experts).gate_up_proj", count, plan)
        let biases = try biases("\(experts).gate_up_proj_bias", count, plan)
        for (name, first) in [("ffn_gate_exps", 0), ("ffn_up_exps", 1)] {
            try plan.add(FolderTensor("\(ours).\(name).weight", [both], order: .every(step: 2, first: first)))
            try plan.add(
                try FolderTensor(
                    "\(ours).\(name).bias", [try EveryColumn(biases, step: 2, first: first)], asFloats: true))
        }
        let down = try matrix("\(experts).down_proj", count, plan)
        try plan.add(FolderTensor("\(ours).ffn_down_exps.weight", [down]))
        let downBiases = try Self.biases("\(experts).down_proj_bias", count, plan)
        try plan.add(FolderTensor("\(ours).ffn_down_exps.bias", [downBiases], asFloats: true))
    }

    /// Experts [experts, rows, k]: floats of 4 bits, or others, which lie transposed.
    private static func matrix(_ name: String, _ count: Int, _ plan: DecoderPlan) throws -> any FolderMatrix {
        let matrix: any FolderMatrix
        if case .microFloat4 = plan.checkpoint.quantization, !plan.checkpoint.has(name) {
            matrix = try MicroFloat4Matrix(name, plan.checkpoint)
        } else {
            matrix = try plan.checkpoint.floats(name, transposed: true)
        }
        guard matrix.shape.count == 3, matrix.shape[0] == count, matrix.shape[1] % 2 == 0 else {
            throw FormatError("\(name) has the shape \(matrix.shape), which are not \(count) experts")
        }
        return matrix
    }

    /// Biases [experts, rows].
    private static func biases(_ name: String, _ count: Int, _ plan: DecoderPlan) throws -> any FolderMatrix {
        let matrix = try plan.checkpoint.floats(name)
        guard matrix.shape.count == 2, matrix.shape[0] == count else {
            throw FormatError("\(name) has the shape \(matrix.shape), which are not the biases of \(count) experts")
        }
        return matrix
    }
}

/// Every `step`th column of a matrix.
private struct EveryColumn: FolderMatrix {
    private let matrix: any FolderMatrix
    private let step, first: Int

    init(_ matrix: any FolderMatrix, step: Int, first: Int) throws {
        guard matrix.k % step == 0, matrix.k > 0 else {
            throw FormatError("\(matrix.name) has \(matrix.k) columns, not a multiple of \(step)")
        }
        (self.matrix, self.step, self.first) = (matrix, step, first)
    }

    var name: String { matrix.name }
    var shape: [Int] { matrix.shape.dropLast() + [matrix.k / step] }
    var encoding: Encoding { matrix.encoding }

    func read(row: Int, into out: UnsafeMutablePointer<Float>) {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: matrix.k) { all in
            guard let base = all.baseAddress else { return }
            matrix.read(row: row, into: base)
            for i in 0..<k { out[i] = base[i * step + first] }
        }
    }
}
