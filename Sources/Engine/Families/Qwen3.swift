import ModelFormat

/// The qwen3 family (Yang et al. 2025): as qwen2, but with RMSNorm of queries and keys in place of biases.
struct Qwen3: DecoderFamily {
    static let architecture = "qwen3"
    static let keys = KnownKeys.relatives

    struct Layer {
        let attention: AttentionWeights
        let feedForward: FeedForwardWeights
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let layers: [Layer]

    init(_ weights: WeightLoader) throws {
        let c = try weights.config("qwen3")
        config = c
        layers = try (0..<c.layers).map { l in
            Layer(
                attention: try weights.attention(l, c, headNorms: .each), feedForward: try weights.feedForward(l, c))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let (a, f) = (layers[layer].attention, layers[layer].feedForward)
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .halves))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part)
        s.project(.normalized(f.norm), f.gate.to(s.gate), f.up.to(s.up))
        s.project(.gated(.silu), f.down.to(s.part))
        s.addResidual(s.part)
    }
}
