import ModelFormat

/// The olmoe family (Muennighoff et al. 2024): RMSNorm of all queries and of all keys together, and a mixture of experts
/// whose weights are those of a softmax over all of them.
struct Olmoe: DecoderFamily {
    static let architecture = "olmoe"
    static let keys = KnownKeys.mixtures.adding(neutral: ["expert_weights_norm": [0], "attention.clamp_kqv": [0]])

    struct Layer {
        let attention: AttentionWeights
        let experts: ExpertWeights
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let layers: [Layer]

    init(_ weights: WeightLoader) throws {
        let c = try weights.mixture("olmoe")
        config = c
        layers = try (0..<c.layers).map { l in
            Layer(
                attention: try weights.attention(l, c, headNorms: .together), experts: try weights.experts(l, c))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let (a, e) = (layers[layer].attention, layers[layer].experts)
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .halves))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part)
        s.mix(e, .softmax(normalized: false), .silu)
        s.addResidual(s.part)
    }
}
