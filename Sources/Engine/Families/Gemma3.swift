import ModelFormat

/// The gemma3 text family (Gemma Team 2025): scaled embeddings, norms before and after each part, RMSNorm of queries and
/// keys, GELU-gated feed-forward. Five of six layers are local: they see a sliding window and have a RoPE base of their own.
struct Gemma3: DecoderFamily {
    static let architecture = "gemma3"

    struct Layer {
        let attentionNorm, attentionPostNorm: VectorRef
        let query, key, value, output: LinearRef
        let queryNorm, keyNorm: VectorRef
        let feedForwardNorm, feedForwardPostNorm: VectorRef
        let gate, up, down: LinearRef
    }

    let config: DecoderConfig
    let embedding: LinearRef
    let embeddingScale: Float
    let layers: [Layer]
    let outputNorm: VectorRef
    let head: LinearRef

    /// Every sixth layer is global.
    private static let pattern = 6
    /// The local layers' RoPE base, where the metadata names none.
    private static let localBase: Float = 10_000

    init(_ weights: WeightLoader) throws {
        var c = try weights.config("gemma3")
        let window = try weights.metadata.requiredCount("gemma3.attention.sliding_window", limit: c.contextLength)
        c.windows = (0..<c.layers).map { $0 % Self.pattern == Self.pattern - 1 ? 0 : window }
        c.ropeBases.append(weights.metadata.float("gemma3.rope.freq_base_swa") ?? Self.localBase)
        config = c
        embeddingScale = Float(c.hidden).squareRoot()
        layers = try (0..<c.layers).map { l in
            Layer(
                attentionNorm: try weights.vector("blk.\(l).attn_norm.weight", n: c.hidden),
                attentionPostNorm: try weights.vector("blk.\(l).post_attention_norm.weight", n: c.hidden),
                query: try weights.matrix("blk.\(l).attn_q.weight", n: c.queryWidth, k: c.hidden, layer: l),
                key: try weights.matrix("blk.\(l).attn_k.weight", n: c.keyWidth, k: c.hidden, layer: l),
                value: try weights.matrix("blk.\(l).attn_v.weight", n: c.keyWidth, k: c.hidden, layer: l),
                output: try weights.matrix("blk.\(l).attn_output.weight", n: c.hidden, k: c.queryWidth, layer: l),
                queryNorm: try weights.vector("blk.\(l).attn_q_norm.weight", n: c.headDim),
                keyNorm: try weights.vector("blk.\(l).attn_k_norm.weight", n: c.headDim),
                feedForwardNorm: try weights.vector("blk.\(l).ffn_norm.weight", n: c.hidden),
                feedForwardPostNorm: try weights.vector("blk.\(l).post_ffw_norm.weight", n: c.hidden),
                gate: try weights.matrix("blk.\(l).ffn_gate.weight", n: c.feedForward, k: c.hidden, layer: l),
                up: try weights.matrix("blk.\(l).ffn_up.weight", n: c.feedForward, k: c.hidden, layer: l),
                down: try weights.matrix("blk.\(l).ffn_down.weight", n: c.hidden, k: c.feedForward, layer: l))
        }
        outputNorm = try weights.vector("output_norm.weight", n: c.hidden)
        embedding = try weights.matrix("token_embd.weight", n: c.vocabulary, k: c.hidden, layer: c.layers)
        head =
            weights.has("output.weight")
            ? try weights.matrix("output.weight", n: c.vocabulary, k: c.hidden, layer: c.layers) : embedding
    }

    func run(_ layer: Int, _ s: Step) {
        let w = layers[layer]
        let window = config.windows[layer]
        s.project(.normalized(w.attentionNorm), w.query, to: s.q, w.key, to: s.k, w.value, to: s.v)
        s.attend(
            Attention(
                layer: layer, pairing: .halves, rope: window > 0 ? 1 : 0, window: window, queryNorm: w.queryNorm,
                keyNorm: w.keyNorm))
        s.project(.rows(s.attended), w.output, to: s.part)
        s.addResidual(s.part, norm: w.attentionPostNorm)
        s.project(.normalized(w.feedForwardNorm), w.gate, to: s.gate, w.up, to: s.up)
        s.project(.gated(.gelu), w.down, to: s.part)
        s.addResidual(s.part, norm: w.feedForwardPostNorm)
    }
}
