import ModelFormat

/// The phi3 family (Abdin et al. 2024): llama's equations with RoPE on the halves of a head (or of a part of it), and
/// fused matrices; some see a sliding window, some have LongRoPE.
struct Phi3: DecoderFamily {
    static let architecture = "phi3"
    static let keys = KnownKeys.relatives.adding(
        used: ["attention.sliding_window"], neutral: ["attention.sliding_window_pattern": [1]])

    struct Layer {
        let attention: AttentionWeights
        let feedForward: FeedForwardWeights
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let layers: [Layer]

    init(_ weights: WeightLoader) throws {
        var c = try weights.config("phi3")
        c.windows = try weights.uniformWindows("phi3", c)
        config = c
        layers = try (0..<c.layers).map { [c] l in
            Layer(attention: try weights.attention(l, c), feedForward: try weights.feedForward(l, c))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let (a, f) = (layers[layer].attention, layers[layer].feedForward)
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .halves, window: config.windows[layer]))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part)
        s.project(.normalized(f.norm), f.gate.to(s.gate), f.up.to(s.up))
        s.project(.gated(.silu), f.down.to(s.part))
        s.addResidual(s.part)
    }
}
