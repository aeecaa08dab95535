import ModelFormat

/// The gemma3 text family (Gemma Team 2025): scaled embeddings, norms before and after each part, RMSNorm of queries and
/// keys, GELU-gated feed-forward. Five of six layers are local: they see a sliding window and have a RoPE base of their own.
struct Gemma3: DecoderFamily {
    static let architecture = "gemma3"
    static let keys = KnownKeys.relatives.adding(
        used: [
            "attention.sliding_window", "attention.sliding_window_pattern", "attention.scale", "rope.freq_base_swa",
        ])

    struct Layer {
        let attention: AttentionWeights
        let attentionPostNorm: VectorRef
        let feedForward: FeedForwardWeights
        let feedForwardPostNorm: VectorRef
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let embeddingScale: Float
    let layers: [Layer]

    /// Multiplied into the scores; nil for head_dim^-1/2.
    private let scale: Float?

    /// Every sixth layer is global, where the metadata says nothing else.
    private static let pattern = 6
    /// Layers of the largest model, whose scores are divided by the root of hidden / heads; no key says so.
    private static let largest = 62
    /// The local layers' RoPE base, where the metadata names none.
    private static let localBase: Float = 10_000

    init(_ weights: WeightLoader) throws { try self.init(weights, prefix: Self.architecture) }

    /// - Parameter prefix: of its metadata keys.
    init(_ weights: WeightLoader, prefix: String) throws {
        var c = try weights.config(prefix)
        c.windows = try weights.alternatingWindows(prefix, c, pattern: Self.pattern)
        // Linear scaling is for global layers.
        let base = try weights.rotaryBase("\(prefix).rope.freq_base_swa", usual: Self.localBase)
        c.rotaries.append(Rotary(base: base, dimensions: c.headDim))
        config = c
        let root = 1 / (Float(c.hidden) / Float(c.heads)).squareRoot()
        scale = try weights.positive("\(prefix).attention.scale") ?? (c.layers == Self.largest ? root : nil)
        embeddingScale = Float(c.hidden).squareRoot()
        layers = try (0..<c.layers).map { l in
            Layer(
                attention: try weights.attention(l, c, headNorms: .each),
                attentionPostNorm: try weights.vector("blk.\(l).post_attention_norm.weight", n: c.hidden),
                feedForward: try weights.feedForward(l, c),
                feedForwardPostNorm: try weights.vector("blk.\(l).post_ffw_norm.weight", n: c.hidden))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let w = layers[layer]
        let (a, f) = (w.attention, w.feedForward)
        let window = config.windows[layer]
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .halves, rope: window > 0 ? 1 : 0, window: window, scale: scale))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part, norm: w.attentionPostNorm)
        s.project(.normalized(f.norm), f.gate.to(s.gate), f.up.to(s.up))
        s.project(.gated(.gelu), f.down.to(s.part))
        s.addResidual(s.part, norm: w.feedForwardPostNorm)
    }
}
