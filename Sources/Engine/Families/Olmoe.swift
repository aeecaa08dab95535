import ModelFormat

/// The olmoe family (Muennighoff et al. 2024): RMSNorm of all queries and of all keys together, and a mixture of experts
/// whose weights are those of a softmax over all of them.
struct Olmoe: DecoderFamily {
    static let architecture = "olmoe"
    static let keys = KnownKeys.mixtures.adding(neutral: ["expert_weights_norm": [0], "attention.clamp_kqv": [0]])

    struct Layer {
        let attention: AttentionWeights
        let queryNorm, keyNorm, expertNorm: VectorRef
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
                attention: try weights.attention(l, c),
                queryNorm: try weights.vector("blk.\(l).attn_q_norm.weight", n: c.queryWidth),
                keyNorm: try weights.vector("blk.\(l).attn_k_norm.weight", n: c.keyWidth),
                expertNorm: try weights.vector("blk.\(l).ffn_norm.weight", n: c.hidden),
                experts: try weights.experts(l, c))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let w = layers[layer]
        let a = w.attention
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(
            Attention(
                layer: layer, pairing: .halves, isExact: a.isExact, queryNorm: w.queryNorm, keyNorm: w.keyNorm,
                normalizesHeadsTogether: true))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part)
        s.mix(w.experts, norm: w.expertNorm, gating: .softmax(normalized: false), .silu)
        s.addResidual(s.part)
    }
}
