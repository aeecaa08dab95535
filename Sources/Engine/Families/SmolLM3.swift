import ModelFormat

/// The smollm3 family (Bakouch et al. 2025): llama, but every fourth layer's attention does without positions.
struct SmolLM3: DecoderFamily {
    static let architecture = "smollm3"
    static let keys = KnownKeys.relatives

    struct Layer {
        let attention: AttentionWeights
        let feedForward: FeedForwardWeights
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let layers: [Layer]

    /// No key says it.
    private static let pattern = 4

    init(_ weights: WeightLoader) throws {
        let c = try weights.config("smollm3")
        config = c
        layers = try (0..<c.layers).map { l in
            Layer(attention: try weights.attention(l, c, biases: .optional), feedForward: try weights.feedForward(l, c))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let (a, f) = (layers[layer].attention, layers[layer].feedForward)
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .interleaved, rope: layer % Self.pattern == Self.pattern - 1 ? nil : 0))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part, bias: a.outputBias)
        s.project(.normalized(f.norm), f.gate.to(s.gate), f.up.to(s.up))
        s.project(.gated(.silu), f.down.to(s.part))
        s.addResidual(s.part)
    }
}
