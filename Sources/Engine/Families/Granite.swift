import ModelFormat

/// The granite family (Granite Team 2024): llama with a factor on embeddings, scores, residual parts and logits.
struct Granite: DecoderFamily {
    static let architecture = "granite"
    static let keys = KnownKeys.relatives.adding(
        used: ["attention.scale", "embedding_scale", "residual_scale", "logit_scale"])

    struct Layer {
        let attention: AttentionWeights
        let feedForward: FeedForwardWeights
    }

    let config: DecoderConfig
    let outer: OuterWeights
    let embeddingScale, logitScale: Float
    let layers: [Layer]

    private let residualScale: Float
    /// Multiplied into the scores; nil for head_dim^-1/2.
    private let scale: Float?

    init(_ weights: WeightLoader) throws {
        let c = try weights.config("granite")
        config = c
        embeddingScale = try weights.positive("granite.embedding_scale") ?? 1
        residualScale = try weights.positive("granite.residual_scale") ?? 1
        scale = try weights.positive("granite.attention.scale")
        // Logits are divided by it.
        logitScale = 1 / (try weights.positive("granite.logit_scale") ?? 1)
        layers = try (0..<c.layers).map { l in
            Layer(attention: try weights.attention(l, c, biases: .optional), feedForward: try weights.feedForward(l, c))
        }
        outer = try weights.outer(c)
    }

    func run(_ layer: Int, _ s: DecoderStep) {
        let (a, f) = (layers[layer].attention, layers[layer].feedForward)
        s.project(.normalized(a.norm), a.query.to(s.q), a.key.to(s.k), a.value.to(s.v))
        s.attend(Attention(layer, a, .interleaved, scale: scale))
        s.project(.rows(s.attended), a.output.to(s.part))
        s.addResidual(s.part, bias: a.outputBias, scale: residualScale)
        s.project(.normalized(f.norm), f.gate.to(s.gate), f.up.to(s.up))
        s.project(.gated(.silu), f.down.to(s.part))
        s.addResidual(s.part, scale: residualScale)
    }
}
