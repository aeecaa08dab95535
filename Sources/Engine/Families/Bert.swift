import ModelFormat

/// The BERT encoder (Devlin et al. 2019), and RoBERTa and XLM-R, which differ in their vocabularies: learned positions,
/// bidirectional attention, and LayerNorm after each part.
struct Bert: EncoderFamily {
    static let architecture = "bert"
    static let keys = KnownKeys.encoders

    struct Layer {
        let attention: EncoderAttentionWeights
        let attentionNorm: LayerNorm
        let up, down: BiasedLinear
        let outputNorm: LayerNorm

        init(_ weights: WeightLoader, _ l: Int, _ c: EncoderConfig) throws {
            attention = try weights.encoderAttention(l, c)
            attentionNorm = try weights.layerNorm("blk.\(l).attn_output_norm", n: c.hidden)
            up = try weights.linear("blk.\(l).ffn_up", n: c.feedForward, k: c.hidden, layer: l)
            down = try weights.linear("blk.\(l).ffn_down", n: c.hidden, k: c.feedForward, layer: l)
            outputNorm = try weights.layerNorm("blk.\(l).layer_output_norm", n: c.hidden)
        }

        func run(_ layer: Int, _ s: EncoderStep) {
            s.project(s.hidden, attention.query, to: s.q, attention.key, to: s.k, attention.value, to: s.v)
            s.attend(layer, attention)
            s.project(s.attended, attention.output, to: s.part)
            s.addAndNormalize(s.part, attention.output.bias, attentionNorm)
            s.project(s.hidden, up, to: s.wide)
            s.projectActivated(s.wide, bias: up.bias, down, to: s.part)
            s.addAndNormalize(s.part, down.bias, outputNorm)
        }
    }

    let config: EncoderConfig
    let tokens, positions: LinearRef
    /// nil where the file has none.
    let types: LinearRef?
    let embeddingNorm: LayerNorm
    let layers: [Layer]
    let denses: [EncoderDense]

    init(_ weights: WeightLoader) throws {
        var c = try weights.encoderConfig(Self.architecture)
        c.pairEnds = Self.pairEnds(weights.metadata)
        config = c
        // Embeddings are looked up, never multiplied: they belong to no layer that could be expanded.
        tokens = try weights.matrix("token_embd.weight", n: c.vocabulary, k: c.hidden, layer: -1)
        positions = try weights.matrix("position_embd.weight", n: c.contextLength, k: c.hidden, layer: -1)
        types = try weights.tokenTypes(c)
        embeddingNorm = try weights.layerNorm("token_embd_norm", n: c.hidden)
        layers = try (0..<c.layers).map { try Layer(weights, $0, c) }
        denses = try weights.encoderDenses(c)
    }

    /// BERT's pairs are `[CLS] a [SEP] b [SEP]`, RoBERTa's and XLM-R's `<s> a </s></s> b </s>`; their vocabularies tell
    /// them apart, where the file does not say it.
    private static func pairEnds(_ metadata: Metadata) -> Int {
        let isWordPiece = ["wordpiece", "bert"].contains(metadata.string("tokenizer.ggml.model"))
        return metadata.bool("tokenizer.ggml.add_sep_token") ?? !isWordPiece ? 2 : 1
    }

    func embed(_ s: EncoderStep) { s.embed(tokens, positions: positions, types: types, embeddingNorm) }

    func run(_ layer: Int, _ s: EncoderStep) { layers[layer].run(layer, s) }
}

extension WeightLoader {
    /// The embeddings of token types, two as a rule; nil where the file has none.
    func tokenTypes(_ c: EncoderConfig) throws -> LinearRef? {
        guard let count = outputs("token_types.weight") else { return nil }
        return try matrix("token_types.weight", n: count, k: c.hidden, layer: -1)
    }
}
