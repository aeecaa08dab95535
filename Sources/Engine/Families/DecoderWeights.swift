import ModelFormat

/// The weights that llama and its relatives share, under GGUF's names. The equations stay in each family's file.
struct AttentionWeights {
    /// Before it; of no use in families without it.
    let norm: VectorRef
    let query, key, value, output: LinearRef
    /// nil where the file has none.
    let queryBias, keyBias, valueBias, outputBias: VectorRef?
    /// RMSNorm of queries and keys before the rotation; nil in families without it.
    let queryNorm, keyNorm: VectorRef?
    let headNorms: HeadNorms

    /// What of a row is normalized together.
    enum HeadNorms { case none, each, together }

    /// Which of the products have biases.
    enum Biases {
        case none
        /// Those of which the file has one.
        case optional
        case queryKeyValue
    }

    /// Whether the layer is computed in float now: its mode.
    var isExact: Bool { !key.pointee.readsIntegers }
}

/// Gated feed-forward (Shazeer 2020): down(activation(gate x) * up x).
struct FeedForwardWeights {
    /// Before it; of no use in families without it.
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

    /// - Parameters:
    ///   - norm: the name of the norm before the attention; nil for none.
    func attention(
        _ layer: Int, _ c: DecoderConfig, biases: AttentionWeights.Biases = .none,
        headNorms: AttentionWeights.HeadNorms = .none, norm: String? = "attn_norm"
    ) throws -> AttentionWeights {
        func bias(_ name: String, _ n: Int, isInput: Bool = true) throws -> VectorRef? {
            let name = "blk.\(layer).\(name).bias"
            return switch biases {
            case .none: nil
            case .optional: try optionalVector(name, n: n)
            case .queryKeyValue: isInput ? try vector(name, n: n) : nil
            }
        }
        func headNorm(_ name: String, _ width: Int) throws -> VectorRef? {
            let name = "blk.\(layer).\(name).weight"
            return switch headNorms {
            case .none: nil
            case .each: try vector(name, n: c.headDim)
            case .together: try vector(name, n: width)
            }
        }
        let (query, key, value) = try queryKeyValue(layer, c)
        let weights = AttentionWeights(
            norm: try norm.map { try vector("blk.\(layer).\($0).weight", n: c.hidden) } ?? WeightSet.nothing,
            query: query, key: key, value: value,
            output: try matrix("attn_output", of: layer, n: c.hidden, k: c.queryWidth),
            queryBias: try bias("attn_q", c.queryWidth), keyBias: try bias("attn_k", c.keyWidth),
            valueBias: try bias("attn_v", c.keyWidth),
            outputBias: try bias("attn_output", c.hidden, isInput: false),
            queryNorm: try headNorm("attn_q_norm", c.queryWidth), keyNorm: try headNorm("attn_k_norm", c.keyWidth),
            headNorms: headNorms)
        try shareInput(weights.query, weights.key, weights.value)
        return weights
    }

    /// Three matrices, or one that holds all of them.
    private func queryKeyValue(_ layer: Int, _ c: DecoderConfig) throws -> (LinearRef, LinearRef, LinearRef) {
        let fused = "blk.\(layer).attn_qkv.weight"
        guard has(fused) else {
            return (
                try matrix("attn_q", of: layer, n: c.queryWidth, k: c.hidden),
                try matrix("attn_k", of: layer, n: c.keyWidth, k: c.hidden),
                try matrix("attn_v", of: layer, n: c.keyWidth, k: c.hidden)
            )
        }
        func part(_ first: Int, _ n: Int) throws -> LinearRef {
            try self.part(fused, of: c.queryWidth + 2 * c.keyWidth, first: first, n: n, k: c.hidden, layer: layer)
        }
        return (
            try part(0, c.queryWidth), try part(c.queryWidth, c.keyWidth),
            try part(c.queryWidth + c.keyWidth, c.keyWidth)
        )
    }

    /// - Parameter norm: the name of the norm before it; nil for none.
    func feedForward(_ layer: Int, _ c: DecoderConfig, norm: String? = "ffn_norm") throws -> FeedForwardWeights {
        let up = "blk.\(layer).ffn_up.weight"
        // Where there is no gate of its own, the first half of `ffn_up` is it.
        let isFused = !has("blk.\(layer).ffn_gate.weight") && outputs(up) == 2 * c.feedForward
        func half(_ first: Int) throws -> LinearRef {
            try part(up, of: 2 * c.feedForward, first: first, n: c.feedForward, k: c.hidden, layer: layer)
        }
        let weights = FeedForwardWeights(
            norm: try norm.map { try vector("blk.\(layer).\($0).weight", n: c.hidden) } ?? WeightSet.nothing,
            gate: isFused ? try half(0) : try matrix("ffn_gate", of: layer, n: c.feedForward, k: c.hidden),
            up: isFused ? try half(c.feedForward) : try matrix("ffn_up", of: layer, n: c.feedForward, k: c.hidden),
            down: try matrix("ffn_down", of: layer, n: c.hidden, k: c.feedForward))
        try shareInput(weights.gate, weights.up)
        return weights
    }

    /// - Parameters:
    ///   - biases: whether router and experts have biases.
    ///   - norm: the name of the norm before them.
    func experts(
        _ layer: Int, _ c: DecoderConfig, biases: Bool = false, norm: String = "ffn_norm"
    ) throws -> ExpertWeights {
        guard let e = c.experts else { throw FormatError("\(path): the model says nothing of its experts") }
        func stacked(_ name: String, n: Int, k: Int) throws -> [LinearRef] {
            try self.stacked("blk.\(layer).\(name).weight", experts: e.count, n: n, k: k, layer: layer)
        }
        func bias(_ name: String, n: Int) throws -> LinearRef? {
            biases ? try matrix("blk.\(layer).\(name).bias", n: e.count, k: n, layer: -1) : nil
        }
        return ExpertWeights(
            layer: layer,
            norm: try vector("blk.\(layer).\(norm).weight", n: c.hidden),
            router: try matrix("ffn_gate_inp", of: layer, n: e.count, k: c.hidden),
            routerBias: biases ? try vector("blk.\(layer).ffn_gate_inp.bias", n: e.count) : nil,
            gate: try stacked("ffn_gate_exps", n: c.feedForward, k: c.hidden),
            up: try stacked("ffn_up_exps", n: c.feedForward, k: c.hidden),
            down: try stacked("ffn_down_exps", n: c.hidden, k: c.feedForward),
            gateBias: try bias("ffn_gate_exps", n: c.feedForward), upBias: try bias("ffn_up_exps", n: c.feedForward),
            downBias: try bias("ffn_down_exps", n: c.hidden))
    }

    func outer(_ c: DecoderConfig) throws -> OuterWeights {
        let embedding = try matrix("token_embd.weight", n: c.vocabulary, k: c.hidden, layer: c.layers, isTable: true)
        return OuterWeights(
            embedding: embedding, outputNorm: try vector("output_norm.weight", n: c.hidden),
            head: has("output.weight")
                ? try matrix("output.weight", n: c.vocabulary, k: c.hidden, layer: c.layers) : embedding)
    }
}
