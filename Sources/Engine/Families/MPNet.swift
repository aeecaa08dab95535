import ModelFormat

/// The MPNet encoder (Song et al. 2020): BERT without token types, with a bias of attention's scores that depends on how
/// far apart two tokens are, the same in all layers (Raffel et al. 2020).
struct MPNet: EncoderFamily {
    static let architecture = "mpnet"
    static let keys = KnownKeys.encoders.adding(used: ["attention.relative_buckets_count"])

    let config: EncoderConfig
    let tokens, positions: LinearRef
    let relativeBias: LinearRef?
    let embeddingNorm: LayerNorm
    let layers: [Bert.Layer]
    let denses: [EncoderDense]

    init(_ weights: WeightLoader) throws {
        var c = try weights.encoderConfig(Self.architecture)
        c.pairEnds = 2
        config = c
        tokens = try weights.matrix("token_embd.weight", n: c.vocabulary, k: c.hidden, layer: -1)
        positions = try weights.matrix("position_embd.weight", n: c.contextLength, k: c.hidden, layer: -1)
        let buckets = try weights.metadata.requiredCount("mpnet.attention.relative_buckets_count", limit: 4096)
        guard buckets >= 4 else {
            throw FormatError("mpnet.attention.relative_buckets_count is \(buckets): at least 4 are needed")
        }
        relativeBias = try weights.matrix("attn_rel_b.weight", n: buckets, k: c.heads, layer: -1)
        embeddingNorm = try weights.layerNorm("token_embd_norm", n: c.hidden)
        layers = try (0..<c.layers).map { try Bert.Layer(weights, $0, c) }
        denses = try weights.encoderDenses(c)
    }

    func embed(_ s: EncoderStep) { s.embed(tokens, positions: positions, types: nil, embeddingNorm) }

    func run(_ layer: Int, _ s: EncoderStep) { layers[layer].run(layer, s) }
}
