import ModelFormat

/// The qwen3moe family (Yang et al. 2025): qwen3's attention, and a mixture of experts whose weights sum to 1.
struct Qwen3Moe: DecoderFamily {
    static let architecture = "qwen3moe"
    static let keys = KnownKeys.mixtures.adding(neutral: ["expert_weights_norm": [1]])

    struct Layer {
        let attention: AttentionWeights
        let queryNorm, keyNorm, expertNorm: VectorRef
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
                attention: try weights.attention(l, c),
                queryNorm: try weights.vector("blk.\(l).attn_q_norm.weight", n: c.headDim),
                keyNorm: try weights.vector("blk.\(l).attn_k_norm.weight", n: c.headDim),
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
                layer: layer, pairing: .halves, isExact: a.isExact, queryNorm: w.queryNorm, keyNorm: w.keyNorm))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part)
        s.mix(w.experts, norm: w.expertNorm, gating: .softmax(normalized: true), .silu)
        s.addResidual(s.part)
    }
}
