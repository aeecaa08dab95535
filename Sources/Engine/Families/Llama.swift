import ModelFormat

/// The llama family (Touvron et al. 2023): RMSNorm before each part, rotary embeddings on interleaved pairs,
/// grouped-query attention, SiLU-gated feed-forward; some have biases on the attention's products, or a sliding window
/// (Jiang et al. 2023).
struct Llama: DecoderFamily {
    static let architecture = "llama"
    static let keys = KnownKeys.relatives.adding(used: ["attention.sliding_window"])

    struct Layer {
        let attention: AttentionWeights
        let feedForward: FeedForwardWeights
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let layers: [Layer]

    init(_ weights: WeightLoader) throws {
        var c = try weights.config("llama")
        c.windows = try weights.uniformWindows("llama", c)
        config = c
        layers = try (0..<c.layers).map { l in
            Layer(attention: try weights.attention(l, c, biases: .optional), feedForward: try weights.feedForward(l, c))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let (a, f) = (layers[layer].attention, layers[layer].feedForward)
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .interleaved, window: config.windows[layer]))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part, bias: a.outputBias)
        s.project(.normalized(f.norm), f.gate.to(s.gate), f.up.to(s.up))
        s.project(.gated(.silu), f.down.to(s.part))
        s.addResidual(s.part)
    }
}
