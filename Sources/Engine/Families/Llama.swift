import ModelFormat

/// The llama family (Touvron et al. 2023): RMSNorm before each part, rotary embeddings on interleaved pairs,
/// grouped-query attention, SiLU-gated feed-forward.
struct Llama: DecoderFamily {
    static let architecture = "llama"

    struct Layer {
        let attention: AttentionWeights
        let feedForward: FeedForwardWeights
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let layers: [Layer]

    init(_ weights: WeightLoader) throws {
        let c = try weights.config("llama")
        if weights.has("rope_freqs.weight") {
            throw FormatError("RoPE frequency factors (rope_freqs) are not supported")
        }
        config = c
        layers = try (0..<c.layers).map { l in
            Layer(attention: try weights.attention(l, c), feedForward: try weights.feedForward(l, c))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: Step) {
        let (a, f) = (layers[layer].attention, layers[layer].feedForward)
        s.project(.normalized(a.norm), a.query, to: s.q, a.key, to: s.k, a.value, to: s.v)
        s.attend(Attention(layer: layer, pairing: .interleaved, isExact: a.isExact))
        s.project(.rows(s.attended), a.output, to: s.part)
        s.addResidual(s.part)
        s.project(.normalized(f.norm), f.gate, to: s.gate, f.up, to: s.up)
        s.project(.gated(.silu), f.down, to: s.part)
        s.addResidual(s.part)
    }
}
