import ModelFormat

/// The olmo2 family (OLMo Team 2025): no norm before a part, RMSNorm after it; queries and keys are normalized all heads
/// together.
struct Olmo2: DecoderFamily {
    static let architecture = "olmo2"
    static let keys = KnownKeys.relatives

    struct Layer {
        let attention: AttentionWeights
        let attentionPostNorm: VectorRef
        let feedForward: FeedForwardWeights
        let feedForwardPostNorm: VectorRef
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let layers: [Layer]

    init(_ weights: WeightLoader) throws {
        let c = try weights.config("olmo2")
        config = c
        layers = try (0..<c.layers).map { l in
            Layer(
                attention: try weights.attention(l, c, headNorms: .together, norm: nil),
                attentionPostNorm: try weights.vector("blk.\(l).post_attention_norm.weight", n: c.hidden),
                feedForward: try weights.feedForward(l, c, norm: nil),
                feedForwardPostNorm: try weights.vector("blk.\(l).post_ffw_norm.weight", n: c.hidden))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let w = layers[layer]
        let (a, f) = (w.attention, w.feedForward)
        s.project(.residual, a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .halves))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part, norm: w.attentionPostNorm)
        s.project(.residual, f.gate.to(s.gate), f.up.to(s.up))
        s.project(.gated(.silu), f.down.to(s.part))
        s.addResidual(s.part, norm: w.feedForwardPostNorm)
    }
}
