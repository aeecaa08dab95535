import ModelFormat

/// A weight and its bias; nil where it has none.
struct BiasedLinear {
    let weight: LinearRef
    let bias: VectorRef?
}

struct LayerNorm {
    let weight: VectorRef
    /// nil for 0.
    let bias: VectorRef?
}

/// A linear layer that pooled rows pass, the activation of which its ``EncoderConfig/Dense`` says.
struct EncoderDense {
    let linear: BiasedLinear
    /// Follows the activation.
    let norm: LayerNorm?
}

/// The attention of an encoder's layer, and what is special about it.
struct EncoderAttentionWeights {
    let query, key, value: BiasedLinear
    let output: BiasedLinear
    /// Fixed scales of queries, keys and values in a calibrated model, [3].
    let scales: VectorRef?

    var isExact: Bool { !query.weight.pointee.readsIntegers }
}

/// The same where one matrix makes queries, keys and values.
struct FusedAttentionWeights {
    let qkv, output: BiasedLinear
    let scales: VectorRef?

    var isExact: Bool { !qkv.weight.pointee.readsIntegers }
}

extension KnownKeys {
    /// Those of what decoders' rows become embeddings by, besides the decoders' own.
    static let embedding: Set<String> = [
        "pooling_type", "normalize", "max_tokens", "attention.causal", "dense.activations", "dense_2_feat_in",
        "dense_2_feat_out", "dense_3_feat_in", "dense_3_feat_out",
    ]

    /// Those that all encoders share, which ``WeightLoader/encoderConfig(_:)`` reads.
    static let encoders = KnownKeys(
        used: [
            "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
            "attention.layer_norm_epsilon", "max_tokens", "pooling_type", "normalize", "dense.activations",
            "classifier.pooling_type",
        ],
        harmless: [
            // What the embedding's shape says.
            "vocab_size",
            // What the scores of classifiers are called.
            "classifier.output_labels",
        ], neutral: ["attention.causal": [0]])
}

extension WeightLoader {
    /// A matrix [n, k] as a part of `layer`, and its bias where the file has one.
    /// - Parameter biases: whether the family may have biases; others have to do without.
    func linear(_ name: String, n: Int, k: Int, layer: Int, biases: Bool = true) throws -> BiasedLinear {
        BiasedLinear(
            weight: try matrix("\(name).weight", n: n, k: k, layer: layer),
            bias: biases ? try optionalVector("\(name).bias", n: n) : nil)
    }

    func layerNorm(_ name: String, n: Int, biases: Bool = true) throws -> LayerNorm {
        LayerNorm(
            weight: try vector("\(name).weight", n: n), bias: biases ? try optionalVector("\(name).bias", n: n) : nil)
    }

    /// Fixed scales of a layer's queries, keys and values, where the model is calibrated.
    private func attentionScales(_ layer: Int) throws -> VectorRef? {
        let name = "blk.\(layer).attention_scales"
        let scales = try optionalVector(name, n: 3)
        if let scales { try demandScales(scales, count: 3, name) }
        return scales
    }

    func encoderAttention(_ layer: Int, _ c: EncoderConfig) throws -> EncoderAttentionWeights {
        func part(_ name: String) throws -> BiasedLinear {
            try linear("blk.\(layer).\(name)", n: c.hidden, k: c.hidden, layer: layer)
        }
        let weights = EncoderAttentionWeights(
            query: try part("attn_q"), key: try part("attn_k"), value: try part("attn_v"),
            output: try part("attn_output"), scales: try attentionScales(layer))
        try shareInput(weights.query.weight, weights.key.weight, weights.value.weight)
        return weights
    }

    func fusedAttention(_ layer: Int, _ c: EncoderConfig) throws -> FusedAttentionWeights {
        FusedAttentionWeights(
            qkv: try linear("blk.\(layer).attn_qkv", n: 3 * c.hidden, k: c.hidden, layer: layer, biases: false),
            output: try linear("blk.\(layer).attn_output", n: c.hidden, k: c.hidden, layer: layer, biases: false),
            scales: try attentionScales(layer))
    }

    // MARK: What embeddings pass after pooling

    /// The layers that the configuration lists.
    func encoderDenses(_ c: EncoderConfig) throws -> [EncoderDense] {
        try c.denses.enumerated().map { index, dense in
            let isLast = index == c.denses.count - 1
            return EncoderDense(
                linear: try linear(dense.name, n: dense.outputs, k: dense.inputs, layer: c.layers - 1),
                norm: c.isReranker && !isLast && has("cls.norm.weight")
                    ? try layerNorm("cls.norm", n: dense.outputs) : nil)
        }
    }

    /// The dense layers that the metadata lists as `dense.N`, or what llama.cpp's converter has; their widths are the
    /// tensors'.
    private func denses(_ prefix: String, hidden: Int) throws -> [EncoderConfig.Dense] {
        guard let list = metadata.array("\(prefix).dense.activations") else {
            return try convertedDenses(prefix, hidden)
        }
        guard list.isStrings, (1...16).contains(list.count) else {
            throw FormatError("\(prefix).dense.activations is no list of at most 16 activations")
        }
        var inputs = hidden
        return try (0..<list.count).map { index in
            let name = String(decoding: Array(list.string(index)), as: UTF8.self)
            guard let activation = EncoderConfig.Dense.Activation(rawValue: name) else {
                throw FormatError("\(prefix).dense.activations has the unknown activation \"\(name.prefix(80))\"")
            }
            return try dense("dense.\(index)", &inputs, activation)
        }
    }

    /// `dense_2` and `dense_3`, numbered as modules of sentence-transformers, without activations.
    private func convertedDenses(_ prefix: String, _ hidden: Int) throws -> [EncoderConfig.Dense] {
        var width = hidden
        return try ["dense_2", "dense_3"].filter { has("\($0).weight") }.map { name in
            let dense = try dense(name, &width, .identity)
            for (key, count) in [("in", dense.inputs), ("out", dense.outputs)] {
                let key = "\(prefix).\(name)_feat_\(key)"
                guard metadata[key] == nil || metadata.integer(key) == count else {
                    throw FormatError("\(key) is not \(count), as the tensors demand")
                }
            }
            return dense
        }
    }

    private func dense(
        _ name: String, _ width: inout Int, _ activation: EncoderConfig.Dense.Activation
    ) throws -> EncoderConfig.Dense {
        guard let outputs = outputs("\(name).weight"), outputs <= 1 << 16 else {
            throw FormatError("\(name).weight is missing, or impossible")
        }
        defer { width = outputs }
        return EncoderConfig.Dense(name: name, inputs: width, outputs: outputs, activation: activation)
    }

    /// A classification head of one score: `cls`, where the file has it, and `cls.output`.
    private func classifier(hidden: Int, _ activation: EncoderConfig.Dense.Activation) throws -> [EncoderConfig.Dense] {
        guard let scores = outputs(EncoderConfig.scoreWeight) else {
            throw FormatError("the file is to rank texts, but the tensor cls.output.weight is missing")
        }
        guard scores == 1 else {
            throw FormatError("a classifier of \(scores) scores is not supported (rerankers, which have one, are)")
        }
        let output = EncoderConfig.Dense(name: "cls.output", inputs: hidden, outputs: 1, activation: .identity)
        guard has("cls.weight") else { return [output] }
        return [EncoderConfig.Dense(name: "cls", inputs: hidden, outputs: hidden, activation: activation), output]
    }

    // MARK: Hyperparameters

    /// The hyperparameters that encoders share, from `PREFIX.*` keys.
    /// - Parameters:
    ///   - classifierPooling: what a classification head reads where the file does not say it.
    ///   - classifierActivation: what stands between its two layers.
    func encoderConfig(
        _ prefix: String, classifierPooling: EncoderConfig.Pooling = .cls,
        classifierActivation: EncoderConfig.Dense.Activation = .tanh
    ) throws -> EncoderConfig {
        func count(_ key: String, limit: Int) throws -> Int {
            try metadata.requiredCount("\(prefix).\(key)", limit: limit)
        }
        let hidden = try count("embedding_length", limit: 1 << 16)
        let heads = try count("attention.head_count", limit: 1024)
        guard hidden % heads == 0, hidden / heads % 16 == 0 else {
            throw FormatError("heads of \(hidden) / \(heads) values are not supported (multiples of 16 are)")
        }
        guard let epsilon = metadata.float("\(prefix).attention.layer_norm_epsilon"), epsilon > 0, epsilon < 1 else {
            throw FormatError("\(prefix).attention.layer_norm_epsilon is missing or impossible")
        }
        guard let vocabulary = outputs("token_embd.weight") else {
            throw FormatError("the tensor token_embd.weight is missing")
        }
        let said = metadata.integer("\(prefix).pooling_type") ?? EncoderConfig.Pooling.mean.rawValue
        let isReranker = said == EncoderConfig.rank || has(EncoderConfig.scoreWeight)
        let context = try count("context_length", limit: TextRows.longestText)
        let maxTokens =
            metadata["\(prefix).max_tokens"] == nil ? context : try count("max_tokens", limit: context)
        // [CLS] and [SEP] alone are two; what goes around a pair is up to four.
        let least = isReranker ? 8 : 2
        guard maxTokens >= least else {
            throw FormatError("\(prefix).max_tokens is \(maxTokens): at least \(least) are needed")
        }
        return EncoderConfig(
            layers: try count("block_count", limit: 1024), hidden: hidden, heads: heads,
            feedForward: try count("feed_forward_length", limit: 1 << 18), vocabulary: vocabulary,
            contextLength: context, maxTokens: maxTokens, epsilon: epsilon,
            pooling: try isReranker
                ? pooling("\(prefix).classifier.pooling_type") ?? classifierPooling
                : pooling("\(prefix).pooling_type") ?? .mean,
            denses: try isReranker
                ? classifier(hidden: hidden, classifierActivation) : denses(prefix, hidden: hidden),
            normalize: isReranker ? false : metadata.bool("\(prefix).normalize") ?? true, isReranker: isReranker)
    }

    /// What makes embeddings of a decoder's rows.
    func encoderConfig(_ prefix: String, of c: DecoderConfig) throws -> EncoderConfig {
        let context = min(c.contextLength, TextRows.longestText)
        let key = "\(prefix).max_tokens"
        let maxTokens = metadata[key] == nil ? context : try metadata.requiredCount(key, limit: 1 << 24)
        // What stands around a text is two.
        guard min(maxTokens, context) >= 2 else { throw FormatError("\(key) is \(maxTokens): at least 2 are needed") }
        return EncoderConfig(
            layers: c.layers, hidden: c.hidden, heads: c.heads, feedForward: c.feedForward, vocabulary: c.vocabulary,
            contextLength: context, maxTokens: min(maxTokens, context), epsilon: c.epsilon,
            pooling: try pooling("\(prefix).pooling_type") ?? .mean, denses: try denses(prefix, hidden: c.hidden),
            normalize: metadata.bool("\(prefix).normalize") ?? true)
    }

    private func pooling(_ key: String) throws -> EncoderConfig.Pooling? {
        guard metadata[key] != nil else { return nil }
        guard let pooling = metadata.integer(key).flatMap(EncoderConfig.Pooling.init) else {
            throw FormatError("\(key) is unknown (1, mean, 2, CLS, and 3, the last token, are possible)")
        }
        return pooling
    }

    /// The rotary embedding of an encoder, which has no scaling.
    func encoderRotary(_ key: String, usual base: Float, _ config: EncoderConfig) throws -> Rotary {
        Rotary(base: try rotaryBase(key, usual: base), dimensions: config.headDim)
    }
}
