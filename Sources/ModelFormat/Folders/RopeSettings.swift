import Glibc

/// How a configuration turns positions into rotations: `rope_theta` with `rope_scaling`, or `rope_parameters`, which say
/// both, for each kind of layer where those differ.
struct RopeSettings {
    let scaling: FolderSettings?
    let type: String?
    let base, localBase: Double?

    private let config: FolderSettings

    /// - Throws: ``FormatError`` for a kind of scaling that is not among `kinds`.
    init(_ config: FolderSettings, kinds: Set<String>, usualBase: Double? = nil) throws {
        self.config = config
        // Both may stand there: the newer one counts.
        let older = try config.settings("rope_scaling")
        let all = try config.settings("rope_parameters") ?? older
        let local = try all?.settings("sliding_attention")
        let scaling = try all?.settings("full_attention") ?? (local == nil ? all : nil)
        self.scaling = scaling
        let theta = try config.number("rope_theta")
        base = try scaling?.number("rope_theta") ?? theta ?? usualBase
        let localTheta = try config.number("rope_local_base_freq")
        localBase = try local?.number("rope_theta") ?? localTheta
        if let local, let kind = try local.text("rope_type"), kind != "default" {
            throw local.refusal("rope_type", "is \"\(kind.prefix(80))\", which is not supported for these layers")
        }
        for base in [base, localBase] where base.map({ $0 <= 1 }) ?? false {
            throw config.refusal("rope_theta", "is \(base ?? 0), which is impossible")
        }
        let said = try scaling?.text("rope_type"), old = try scaling?.text("type")
        let name = said ?? old
        type = name == "default" ? nil : name == "su" ? "longrope" : name
        if let type, !kinds.contains(type) {
            let known = kinds.sorted().joined(separator: ", ")
            throw (scaling ?? config).refusal(
                said == nil ? "type" : "rope_type", "is \"\(type.prefix(80))\", which is not supported (\(known))")
        }
    }

    /// A number that frequencies are divided by or rotations multiplied with, in f32: 0 would stand for none.
    func positive(_ key: String, usual: Double? = nil) throws -> Double {
        guard let scaling, let value = try scaling.number(key) ?? usual, Float(value) > 0, Float(value).isFinite else {
            throw (scaling ?? config).refusal(key, "is missing or impossible")
        }
        return value
    }

    /// Positions that the model was first made for.
    func originalContext() throws -> Int {
        let outer = try config.count("original_max_position_embeddings")
        let said = try scaling?.count("original_max_position_embeddings") ?? outer
        return try said ?? config.required("max_position_embeddings")
    }

    /// Writes base, kind and factors; what llama 3 scales by becomes a tensor of `headDim / 2` values.
    func describe(_ plan: DecoderPlan) throws {
        if let base { plan.metadata[".rope.freq_base"] = .number(Float(base)) }
        if let localBase { plan.metadata[".rope.freq_base_swa"] = .number(Float(localBase)) }
        switch type {
        case "linear":
            plan.metadata[".rope.scaling.type"] = .text("linear")
            plan.metadata[".rope.scaling.factor"] = .number(Float(try positive("factor")))
        case "yarn": try describeYarn(plan)
        case "llama3":
            try plan.add(FolderTensor("rope_freqs.weight", values: try llama3Factors(plan.headDim)))
        default: break
        }
    }

    /// YaRN (Peng et al. 2023).
    private func describeYarn(_ plan: DecoderPlan) throws {
        plan.metadata[".rope.scaling.type"] = .text("yarn")
        plan.metadata[".rope.scaling.factor"] = .number(Float(try positive("factor")))
        plan.metadata[".rope.scaling.original_context_length"] = .count(UInt32(try originalContext()))
        for name in ["attention_factor", "attn_factor"] { _ = try positive(name, usual: 1) }
        for (key, names) in [
            ("ext_factor", ["extrapolation_factor"]), ("attn_factor", ["attention_factor", "attn_factor"]),
            ("beta_fast", ["beta_fast"]), ("beta_slow", ["beta_slow"]),
        ] {
            let values = try names.compactMap { try scaling?.number($0) }
            plan.metadata[".rope.scaling.yarn_\(key)"] = values.first.map { .number(Float($0)) }
        }
        scaling?.demand(["truncate": [.bool(true)]])
    }

    /// What each pair's frequency is divided by (Llama 3.1): 1 for short waves, the factor for waves that are longer than
    /// the first context, and between them in between.
    private func llama3Factors(_ headDim: Int) throws -> [Float] {
        let base = Float(base ?? 10_000)
        let factor = Float(try positive("factor", usual: 8))
        let low = Float(try positive("low_freq_factor", usual: 1))
        let high = Float(try positive("high_freq_factor", usual: 4))
        let context = Float(try positive("original_max_position_embeddings", usual: 8192))
        guard high > low else { throw (scaling ?? config).refusal("high_freq_factor", "is not above low_freq_factor") }
        return stride(from: 0, to: headDim, by: 2).map { i in
            let frequency = 1 / powf(base, Float(i) / Float(headDim))
            let wave = 2 * Float.pi / frequency
            if wave < context / high { return 1 }
            if wave > context / low { return factor }
            let smooth = (context / wave - low) / (high - low)
            return 1 / ((1 - smooth) / factor + smooth)
        }
    }
}
