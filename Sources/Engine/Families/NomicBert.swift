import ModelFormat

/// The encoder of nomic-embed-text (Nussbaum et al. 2024): BERT with rotary positions and a feed-forward part gated by
/// SiLU, all without biases but for the norms'.
struct NomicBert: EncoderFamily {
    static let architecture = "nomic-bert"
    static let keys = KnownKeys.encoders.adding(
        used: ["rope.freq_base"], neutral: ["moe_every_n_layers": [0]])

    struct Layer {
        let attention: FusedAttentionWeights
        let attentionNorm: LayerNorm
        let gate, up, down: BiasedLinear
        let outputNorm: LayerNorm
    }

    let config: EncoderConfig
    let tokens: LinearRef
    let types: LinearRef?
    let embeddingNorm: LayerNorm
    let layers: [Layer]
    let denses: [EncoderDense]

    init(_ weights: WeightLoader) throws {
        var c = try weights.encoderConfig(Self.architecture)
        (c.isFused, c.gate) = (true, .separate)
        c.rotaries = [try weights.encoderRotary("nomic-bert.rope.freq_base", usual: 10_000, c)]
        config = c
        tokens = try weights.matrix("token_embd.weight", n: c.vocabulary, k: c.hidden, layer: -1)
        types = try weights.tokenTypes(c)
        embeddingNorm = try weights.layerNorm("token_embd_norm", n: c.hidden)
        layers = try (0..<c.layers).map { l in
            func linear(_ name: String, n: Int, k: Int) throws -> BiasedLinear {
                try weights.linear("blk.\(l).\(name)", n: n, k: k, layer: l, biases: false)
            }
            let layer = Layer(
                attention: try weights.fusedAttention(l, c),
                attentionNorm: try weights.layerNorm("blk.\(l).attn_output_norm", n: c.hidden),
                gate: try linear("ffn_gate", n: c.feedForward, k: c.hidden),
                up: try linear("ffn_up", n: c.feedForward, k: c.hidden),
                down: try linear("ffn_down", n: c.hidden, k: c.feedForward),
                outputNorm: try weights.layerNorm("blk.\(l).layer_output_norm", n: c.hidden))
            try weights.shareInput(layer.gate.weight, layer.up.weight)
            return layer
        }
        denses = try weights.encoderDenses(c)
    }

    func embed(_ s: EncoderStep) { s.embed(tokens, positions: nil, types: types, embeddingNorm) }

    func run(_ layer: Int, _ s: EncoderStep) {
        let w = layers[layer]
        s.project(s.hidden, w.attention.qkv, to: s.q)
        s.attend(layer, w.attention, rotary: 0)
        s.project(s.attended, w.attention.output, to: s.part)
        s.addAndNormalize(s.part, nil, w.attentionNorm)
        s.project(s.hidden, w.up, to: s.wide, w.gate, to: s.gate)
        s.projectGated(.silu, w.down, to: s.part)
        s.addAndNormalize(s.part, nil, w.outputNorm)
    }
}
