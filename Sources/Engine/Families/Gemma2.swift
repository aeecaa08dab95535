import ModelFormat

/// The gemma2 family (Gemma Team 2024): scaled embeddings, norms before and after each part, soft caps on scores and
/// logits; every second layer is global, the others see a sliding window.
struct Gemma2: DecoderFamily {
    static let architecture = "gemma2"
    static let keys = KnownKeys.relatives.adding(
        used: [
            "attention.sliding_window", "attention.sliding_window_pattern", "attention.scale", "attn_logit_softcapping",
            "final_logit_softcapping",
        ])

    struct Layer {
        let attention: AttentionWeights
        let attentionPostNorm: VectorRef
        let feedForward: FeedForwardWeights
        let feedForwardPostNorm: VectorRef
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let embeddingScale, logitSoftcap: Float
    let layers: [Layer]

    private let softcap: Float
    /// Multiplied into the scores; nil for head_dim^-1/2.
    private let scale: Float?

    /// Layers of the largest model, whose scores are divided by the root of hidden / heads; no key says so.
    private static let largest = 46

    init(_ weights: WeightLoader) throws {
        var c = try weights.config("gemma2")
        c.windows = try weights.alternatingWindows("gemma2", c, pattern: 2)
        config = c
        let root = 1 / (Float(c.hidden) / Float(c.heads)).squareRoot()
        scale = try weights.positive("gemma2.attention.scale") ?? (c.layers == Self.largest ? root : nil)
        softcap = try weights.positive("gemma2.attn_logit_softcapping") ?? 0
        logitSoftcap = try weights.positive("gemma2.final_logit_softcapping") ?? 0
        embeddingScale = Float(c.hidden).squareRoot()
        layers = try (0..<c.layers).map { [c] l in
            Layer(
                attention: try weights.attention(l, c),
                attentionPostNorm: try weights.vector("blk.\(l).post_attention_norm.weight", n: c.hidden),
                feedForward: try weights.feedForward(l, c),
                feedForwardPostNorm: try weights.vector("blk.\(l).post_ffw_norm.weight", n: c.hidden))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let w = layers[layer]
        let (a, f) = (w.attention, w.feedForward)
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .halves, window: config.windows[layer], scale: scale, softcap: softcap))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part, norm: w.attentionPostNorm)
        s.project(.normalized(f.norm), f.gate.to(s.gate), f.up.to(s.up))
        s.project(.gated(.gelu), f.down.to(s.part))
        s.addResidual(s.part, norm: w.feedForwardPostNorm)
    }
}
