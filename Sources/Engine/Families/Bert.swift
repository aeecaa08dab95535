import ModelFormat

/// The numbers of an encoder that the engine needs to know.
public struct EncoderConfig: Sendable {
    public enum Pooling: Int, Sendable { case mean = 1, cls = 2 }

    public var layers: Int
    public var hidden: Int
    public var heads: Int
    public var feedForward: Int
    public var vocabulary: Int
    /// Position embeddings.
    public var contextLength: Int
    /// Tokens of a text at most; longer ones are cut.
    public var maxTokens: Int
    public var epsilon: Float
    public var pooling: Pooling
    /// Linear layers that embeddings pass after pooling.
    public var denses: [Dense] = []
    /// Whether embeddings have length 1.
    public var normalize: Bool

    public struct Dense: Sendable {
        public enum Activation: String, Sendable { case identity, tanh }
        public var inputs, outputs: Int
        public var activation: Activation
    }

    /// Values of an embedding.
    public var embeddingLength: Int { denses.last?.outputs ?? hidden }

    public var headDim: Int { hidden / heads }
}

/// The BERT encoder (Devlin et al. 2019): learned positions, bidirectional attention, and LayerNorm after each part.
struct Bert {
    static let architecture = "bert"
    static let keys = KnownKeys(
        used: [
            "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
            "attention.layer_norm_epsilon", "max_tokens", "pooling_type", "normalize", "dense.activations",
        ],
        harmless: ["vocab_size"], neutral: ["attention.causal": [0]])

    struct Layer {
        let query, key, value, output: BiasedLinear
        let attentionNorm: LayerNorm
        let up, down: BiasedLinear
        let outputNorm: LayerNorm
        /// Fixed scales of queries, keys and values in a calibrated model, [3].
        let attentionScales: VectorRef?
    }

    let config: EncoderConfig
    let tokens, positions, types: LinearRef
    let embeddingNorm: LayerNorm
    let layers: [Layer]
    /// What embeddings pass after pooling; the bias is nil where there is none.
    let denses: [(weight: LinearRef, bias: VectorRef?)]

    init(_ weights: WeightLoader) throws {
        let c = try Self.config(weights)
        config = c
        func linear(_ name: String, n: Int, k: Int, layer: Int) throws -> BiasedLinear {
            BiasedLinear(
                weight: try weights.matrix("\(name).weight", n: n, k: k, layer: layer),
                bias: try weights.vector("\(name).bias", n: n))
        }
        func norm(_ name: String) throws -> LayerNorm {
            LayerNorm(
                weight: try weights.vector("\(name).weight", n: c.hidden),
                bias: try weights.vector("\(name).bias", n: c.hidden))
        }
        // Embeddings are looked up, never multiplied: they belong to no layer that could be expanded.
        tokens = try weights.matrix("token_embd.weight", n: c.vocabulary, k: c.hidden, layer: -1)
        positions = try weights.matrix("position_embd.weight", n: c.contextLength, k: c.hidden, layer: -1)
        types = try weights.matrix(
            "token_types.weight", n: weights.outputs("token_types.weight") ?? 2, k: c.hidden, layer: -1)
        embeddingNorm = try norm("token_embd_norm")
        layers = try (0..<c.layers).map { l in
            let scales = try weights.optionalVector("blk.\(l).attention_scales", n: 3)
            if let scales { try weights.demandScales(scales, count: 3, "blk.\(l).attention_scales") }
            let layer = Layer(
                query: try linear("blk.\(l).attn_q", n: c.hidden, k: c.hidden, layer: l),
                key: try linear("blk.\(l).attn_k", n: c.hidden, k: c.hidden, layer: l),
                value: try linear("blk.\(l).attn_v", n: c.hidden, k: c.hidden, layer: l),
                output: try linear("blk.\(l).attn_output", n: c.hidden, k: c.hidden, layer: l),
                attentionNorm: try norm("blk.\(l).attn_output_norm"),
                up: try linear("blk.\(l).ffn_up", n: c.feedForward, k: c.hidden, layer: l),
                down: try linear("blk.\(l).ffn_down", n: c.hidden, k: c.feedForward, layer: l),
                outputNorm: try norm("blk.\(l).layer_output_norm"), attentionScales: scales)
            try weights.shareInput(layer.query.weight, layer.key.weight, layer.value.weight)
            return layer
        }
        denses = try c.denses.enumerated().map { index, dense in
            (
                try weights.matrix("dense.\(index).weight", n: dense.outputs, k: dense.inputs, layer: c.layers - 1),
                try weights.optionalVector("dense.\(index).bias", n: dense.outputs)
            )
        }
    }

    /// The dense layers that the metadata lists; their widths are the tensors'.
    private static func denses(_ weights: WeightLoader, hidden: Int) throws -> [EncoderConfig.Dense] {
        guard let list = weights.metadata.array("bert.dense.activations") else { return [] }
        guard list.isStrings, (1...16).contains(list.count) else {
            throw FormatError("bert.dense.activations is no list of at most 16 activations")
        }
        var inputs = hidden
        return try (0..<list.count).map { index in
            let name = String(decoding: Array(list.string(index)), as: UTF8.self)
            guard let activation = EncoderConfig.Dense.Activation(rawValue: name) else {
                throw FormatError("bert.dense.activations has the unknown activation \"\(name.prefix(80))\"")
            }
            guard let outputs = weights.outputs("dense.\(index).weight"), outputs <= 1 << 16 else {
                throw FormatError("dense.\(index).weight is missing, or impossible")
            }
            defer { inputs = outputs }
            return EncoderConfig.Dense(inputs: inputs, outputs: outputs, activation: activation)
        }
    }

    private static func config(_ weights: WeightLoader) throws -> EncoderConfig {
        let metadata = weights.metadata
        func count(_ key: String, limit: Int) throws -> Int { try metadata.requiredCount("bert.\(key)", limit: limit) }
        let hidden = try count("embedding_length", limit: 1 << 16)
        let heads = try count("attention.head_count", limit: 1024)
        guard hidden % heads == 0, hidden / heads % 16 == 0 else {
            throw FormatError("heads of \(hidden) / \(heads) values are not supported (multiples of 16 are)")
        }
        guard let epsilon = metadata.float("bert.attention.layer_norm_epsilon"), epsilon > 0, epsilon < 1 else {
            throw FormatError("bert.attention.layer_norm_epsilon is missing or impossible")
        }
        guard let vocabulary = weights.outputs("token_embd.weight") else {
            throw FormatError("the tensor token_embd.weight is missing")
        }
        guard let pooling = EncoderConfig.Pooling(rawValue: metadata.integer("bert.pooling_type") ?? 1) else {
            throw FormatError("bert.pooling_type is unknown (1, mean, and 2, CLS, are possible)")
        }
        let context = try count("context_length", limit: EncoderStep.rowLimit)
        let maxTokens = metadata["bert.max_tokens"] == nil ? context : try count("max_tokens", limit: context)
        // [CLS] and [SEP] alone are two.
        guard maxTokens >= 2 else { throw FormatError("bert.max_tokens is \(maxTokens): at least 2 are needed") }
        return EncoderConfig(
            layers: try count("block_count", limit: 1024), hidden: hidden, heads: heads,
            feedForward: try count("feed_forward_length", limit: 1 << 18), vocabulary: vocabulary,
            contextLength: context, maxTokens: maxTokens,
            epsilon: epsilon, pooling: pooling, denses: try denses(weights, hidden: hidden),
            normalize: metadata.bool("bert.normalize") ?? true)
    }

    func run(_ layer: Int, _ s: EncoderStep) {
        let w = layers[layer]
        s.project(s.hidden, w.query, to: s.q, w.key, to: s.k, w.value, to: s.v)
        s.attend(layer, w)
        s.project(s.attended, w.output, to: s.part)
        s.addAndNormalize(s.part, w.output.bias, w.attentionNorm)
        s.project(s.hidden, w.up, to: s.wide)
        s.projectActivated(s.wide, bias: w.up.bias, w.down, to: s.part)
        s.addAndNormalize(s.part, w.down.bias, w.outputNorm)
    }
}

/// A weight and its bias.
struct BiasedLinear {
    let weight: LinearRef
    let bias: VectorRef
}

struct LayerNorm {
    let weight, bias: VectorRef
}
