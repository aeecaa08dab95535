import ModelFormat

/// The qwen2 family (Yang et al. 2024): as llama, but with biases on queries, keys and values, and rotary embeddings on
/// the two halves of a head.
struct Qwen2: DecoderFamily {
    static let architecture = "qwen2"

    struct Layer {
        let attentionNorm: VectorRef
        let query, key, value, output: LinearRef
        let queryBias, keyBias, valueBias: VectorRef
        let feedForwardNorm: VectorRef
        let gate, up, down: LinearRef
    }

    let config: DecoderConfig
    let embedding: LinearRef
    let embeddingScale: Float = 1
    let layers: [Layer]
    let outputNorm: VectorRef
    let head: LinearRef

    init(_ weights: WeightLoader) throws {
        let c = try weights.config("qwen2")
        config = c
        layers = try (0..<c.layers).map { l in
            Layer(
                attentionNorm: try weights.vector("blk.\(l).attn_norm.weight", n: c.hidden),
                query: try weights.matrix("blk.\(l).attn_q.weight", n: c.queryWidth, k: c.hidden, layer: l),
                key: try weights.matrix("blk.\(l).attn_k.weight", n: c.keyWidth, k: c.hidden, layer: l),
                value: try weights.matrix("blk.\(l).attn_v.weight", n: c.keyWidth, k: c.hidden, layer: l),
                output: try weights.matrix("blk.\(l).attn_output.weight", n: c.hidden, k: c.queryWidth, layer: l),
                queryBias: try weights.vector("blk.\(l).attn_q.bias", n: c.queryWidth),
                keyBias: try weights.vector("blk.\(l).attn_k.bias", n: c.keyWidth),
                valueBias: try weights.vector("blk.\(l).attn_v.bias", n: c.keyWidth),
                feedForwardNorm: try weights.vector("blk.\(l).ffn_norm.weight", n: c.hidden),
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
        s.project(.normalized(w.attentionNorm), w.query, to: s.q, w.key, to: s.k, w.value, to: s.v)
        s.attend(
            Attention(
                layer: layer, pairing: .halves, queryBias: w.queryBias, keyBias: w.keyBias, valueBias: w.valueBias))
        s.project(.rows(s.attended), w.output, to: s.part)
        s.addResidual(s.part)
        s.project(.normalized(w.feedForwardNorm), w.gate, to: s.gate, w.up, to: s.up)
        s.project(.gated(.silu), w.down, to: s.part)
        s.addResidual(s.part)
    }
}
