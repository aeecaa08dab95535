import ModelFormat

/// The gpt-oss family (OpenAI 2025): attention with sinks, every second layer global and the others with a sliding window,
/// YaRN, and a mixture of experts with biases and bounded factors.
struct GptOss: DecoderFamily {
    static let architecture = "gpt-oss"
    static let keys = KnownKeys.mixtures.adding(
        used: ["attention.sliding_window", "attention.sliding_window_pattern"], neutral: ["expert_gating_func": [3]])

    struct Layer {
        let attention: AttentionWeights
        /// [heads].
        let sinks: VectorRef
        let experts: ExpertWeights
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let layers: [Layer]

    init(_ weights: WeightLoader) throws {
        var c = try weights.mixture("gpt-oss")
        c.windows = try weights.alternatingWindows("gpt-oss", c, pattern: 2)
        // Its ramp runs between fractions of pairs.
        c.rotaries[0].yarn?.wholePairs = false
        config = c
        layers = try (0..<c.layers).map { [c] l in
            Layer(
                attention: try weights.attention(l, c, biases: .optional),
                sinks: try weights.vector("blk.\(l).attn_sinks.weight", n: c.heads),
                experts: try weights.experts(l, c, biases: true, norm: "post_attention_norm"))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let w = layers[layer]
        let a = w.attention
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .halves, window: config.windows[layer], sinks: w.sinks))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part, bias: a.outputBias)
        s.mix(w.experts, .softmaxOfChosen, .clamped)
        s.addResidual(s.part)
    }
}
