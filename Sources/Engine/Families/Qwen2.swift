import ModelFormat

/// The qwen2 family (Yang et al. 2024): as llama, but with biases on queries, keys and values, and rotary embeddings on
/// the two halves of a head.
struct Qwen2: DecoderFamily {
    static let architecture = "qwen2"
    static let keys = KnownKeys.relatives

    struct Layer {
        let attention: AttentionWeights
        let feedForward: FeedForwardWeights
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let layers: [Layer]

    init(_ weights: WeightLoader) throws {
        let c = try weights.config("qwen2")
        config = c
        layers = try (0..<c.layers).map { l in
            Layer(
                attention: try weights.attention(l, c, biases: .queryKeyValue),
                feedForward: try weights.feedForward(l, c))
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
