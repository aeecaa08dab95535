import ModelFormat

/// The weights that llama and its relatives share, under GGUF's names. The equations stay in each family's file.
struct AttentionWeights {
    let norm: VectorRef
    let query, key, value, output: LinearRef
    /// nil where the file has none.
    let queryBias, keyBias, valueBias, outputBias: VectorRef?

    /// Whether the layer is computed in float now: its mode.
    var isExact: Bool { !key.pointee.readsIntegers }
}

/// Gated feed-forward (Shazeer 2020): down(activation(gate x) * up x).
struct FeedForwardWeights {
    let norm: VectorRef
    let gate, up, down: LinearRef
}

/// What stands before the layers and after them.
struct OuterWeights {
    /// The input embedding, [vocabulary, hidden].
    let embedding: LinearRef
    let outputNorm: VectorRef
    /// Hidden to logits; the embedding again where the file has no matrix of its own for it.
    let head: LinearRef
}

extension WeightLoader {
    private func matrix(_ name: String, of layer: Int, n: Int, k: Int) throws -> LinearRef {
        try matrix("blk.\(layer).\(name).weight", n: n, k: k, layer: layer)
    }

    /// - Parameter biases: whether the family may have biases; others have to do without.
    func attention(_ layer: Int, _ c: DecoderConfig, biases: Bool = false) throws -> AttentionWeights {
        func bias(_ name: String, _ n: Int) throws -> VectorRef? {
            biases ? try optionalVector("blk.\(layer).\(name).bias", n: n) : nil
        }
        let weights = AttentionWeights(
            norm: try vector("blk.\(layer).attn_norm.weight", n: c.hidden),
            query: try matrix("attn_q", of: layer, n: c.queryWidth, k: c.hidden),
            key: try matrix("attn_k", of: layer, n: c.keyWidth, k: c.hidden),
            value: try matrix("attn_v", of: layer, n: c.keyWidth, k: c.hidden),
            output: try matrix("attn_output", of: layer, n: c.hidden, k: c.queryWidth),
            queryBias: try bias("attn_q", c.queryWidth), keyBias: try bias("attn_k", c.keyWidth),
            valueBias: try bias("attn_v", c.keyWidth), outputBias: try bias("attn_output", c.hidden))
        try shareInput(weights.query, weights.key, weights.value)
        return weights
    }

    func feedForward(_ layer: Int, _ c: DecoderConfig) throws -> FeedForwardWeights {
        let weights = FeedForwardWeights(
            norm: try vector("blk.\(layer).ffn_norm.weight", n: c.hidden),
            gate: try matrix("ffn_gate", of: layer, n: c.feedForward, k: c.hidden),
            up: try matrix("ffn_up", of: layer, n: c.feedForward, k: c.hidden),
            down: try matrix("ffn_down", of: layer, n: c.hidden, k: c.feedForward))
        try shareInput(weights.gate, weights.up)
        return weights
    }

    func outer(_ c: DecoderConfig) throws -> OuterWeights {
        let embedding = try matrix("token_embd.weight", n: c.vocabulary, k: c.hidden, layer: c.layers)
        return OuterWeights(
            embedding: embedding, outputNorm: try vector("output_norm.weight", n: c.hidden),
            head: has("output.weight")
                ? try matrix("output.weight", n: c.vocabulary, k: c.hidden, layer: c.layers) : embedding)
    }
}
