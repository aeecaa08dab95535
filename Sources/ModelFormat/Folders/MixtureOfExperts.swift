extension DecoderPlan {
    /// A router and the experts of each layer, and how many of those a token passes.
    func addMixture(count: Int) throws {
        try describeMixture(count: count)
        try addLayers([Module("ffn_gate_inp", "mlp.gate")], asFloats: ["ffn_gate_inp"])
        if checkpoint.has("model.layers.0.mlp.experts.gate_up_proj") {
            try addStackedExperts(count)
        } else {
            try addExperts(
                count,
                [("ffn_gate_exps", "gate_proj"), ("ffn_up_exps", "up_proj"), ("ffn_down_exps", "down_proj")])
        }
    }

    func describeMixture(count: Int) throws {
        metadata[".expert_count"] = .count(UInt32(count))
        let used = try config.required("num_experts_per_tok", limit: count)
        metadata[".expert_used_count"] = .count(UInt32(used))
    }

    /// Newer programs store the experts of a layer together: [experts, 2 * rows, k], the gate's rows first.
    private func addStackedExperts(_ count: Int) throws {
        for layer in 0..<layers {
            let experts = "model.layers.\(layer).mlp.experts"
            let both = try checkpoint.floats(experts + ".gate_up_proj")
            let down = try checkpoint.floats(experts + ".down_proj")
            guard both.shape.count == 3, down.shape.count == 3, both.shape[0] == count, down.shape[0] == count,
                both.shape[1] % 2 == 0
            else {
                throw FormatError(
                    "\(both.name) and down_proj are \(both.shape) and \(down.shape), not \(count) experts")
            }
            let (whole, half) = (both.shape[1], both.shape[1] / 2)
            for (name, first) in [("ffn_gate_exps", 0), ("ffn_up_exps", half)] {
                try add(
                    try FolderTensor(
                        "blk.\(layer).\(name).weight", [both], order: .part(first: first, rows: half, of: whole)))
            }
            try add(FolderTensor("blk.\(layer).ffn_down_exps.weight", [down]))
        }
    }
}
