import ModelFormat

/// The qwen3moe family (Yang et al. 2025): qwen3's attention, and a mixture of experts whose weights sum to 1.
struct Qwen3Moe: DecoderFamily {
    static let architecture = "qwen3moe"
    static let keys = KnownKeys.mixtures.adding(neutral: ["expert_weights_norm": [1]])

    struct Layer {
        let attention: AttentionWeights
        let experts: ExpertWeights
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let layers: [Layer]

    init(_ weights: WeightLoader) throws {
        let c = try weights.mixture("qwen3moe")
        config = c
        layers = try (0..<c.layers).map { l in
            Layer(
                attention: try weights.attention(l, c, headNorms: .each), experts: try weights.experts(l, c))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let (a, e) = (layers[layer].attention, layers[layer].experts)
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .halves))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part)
        s.mix(e, .softmax(normalized: true), .silu)
        s.addResidual(s.part)
    }
}
