import ModelFormat

/// How a file says what its rotary embedding is.
extension WeightLoader {
    /// The rotary embedding with its scaling, from `PREFIX.rope.*` and the tensors of factors.
    func rotary(_ prefix: String, dimensions: Int) throws -> Rotary {
        let base = try rotaryBase("\(prefix).rope.freq_base", usual: 10_000)
        var rotary = Rotary(base: base, dimensions: dimensions)
        // A factor without a type is linear (llama.cpp, llama_model::load_hparams).
        let type = metadata.string("\(prefix).rope.scaling.type") ?? "linear"
        switch type {
        case "none", "longrope": break
        case "linear": rotary.factor = try scalingFactor(prefix)
        case "yarn":
            rotary.factor = try scalingFactor(prefix)
            rotary.yarn = try yarn(prefix)
            rotary.amplitude =
                try positive("\(prefix).rope.scaling.yarn_attn_factor") ?? YaRN.amplitude(factor: rotary.factor)
        default:
            throw FormatError(
                "\(path): \(prefix).rope.scaling.type \"\(type.prefix(80))\" is not supported (\(Self.scalings) are)"
            )
        }
        rotary.amplitude *= try positive("\(prefix).rope.scaling.attn_factor") ?? 1
        rotary.factors = try frequencyFactors("rope_freqs.weight", dimensions) ?? []
        // The tensors alone say that it is LongRoPE; llama.cpp's converter names no type.
        let short = "rope_factors_short.weight"
        if type == "longrope", !has(short) { throw FormatError("\(path): the tensor \(short) is missing") }
        if let short = try frequencyFactors(short, dimensions) {
            rotary.factors = short
            rotary.long = try longFactors(prefix, dimensions)
        }
        return rotary
    }

    /// A rotary embedding's base.
    func rotaryBase(_ key: String, usual: Float) throws -> Float {
        let base = metadata.float(key) ?? usual
        guard base > 1, base.isFinite else { throw FormatError("\(path): \(key) is impossible") }
        return base
    }

    private static let scalings = "none, linear, yarn and longrope"

    /// The factor in its present and its older spelling.
    private func scalingFactor(_ prefix: String) throws -> Float {
        try positive("\(prefix).rope.scaling.factor") ?? positive("\(prefix).rope.scale_linear") ?? 1
    }

    private func originalContext(_ prefix: String) throws -> Int {
        let key = "\(prefix).rope.scaling.original_context_length"
        return try metadata.requiredCount(metadata[key] == nil ? "\(prefix).context_length" : key, limit: 1 << 24)
    }

    private func yarn(_ prefix: String) throws -> YaRN {
        var yarn = YaRN(originalContext: try originalContext(prefix))
        yarn.fast = try positive("\(prefix).rope.scaling.yarn_beta_fast") ?? yarn.fast
        yarn.slow = try positive("\(prefix).rope.scaling.yarn_beta_slow") ?? yarn.slow
        guard yarn.fast > yarn.slow else {
            throw FormatError(
                "\(path): YaRN's beta_fast is \(yarn.fast) and its beta_slow \(yarn.slow): the first must be the larger"
            )
        }
        return yarn
    }

    private func longFactors(_ prefix: String, _ dimensions: Int) throws -> (factors: [Float], from: Int)? {
        try frequencyFactors("rope_factors_long.weight", dimensions).map { ($0, try originalContext(prefix)) }
    }

    /// A tensor of what frequencies are divided by; nil where there is none.
    private func frequencyFactors(_ name: String, _ dimensions: Int) throws -> [Float]? {
        guard let factors = try optionalVector(name, n: dimensions / 2) else { return nil }
        try demandScales(factors, count: dimensions / 2, name)
        return isForRunning ? (0..<dimensions / 2).map { factors[$0] } : []
    }
}
