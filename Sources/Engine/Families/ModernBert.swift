import ModelFormat

/// ModernBERT (Warner et al. 2024): LayerNorm before each part, rotary positions, a feed-forward part gated by GELU, no
/// biases. Every third layer sees the whole text; the others see a window around each token, and turn by another base.
struct ModernBert: EncoderFamily {
    static let architecture = "modern-bert"
    static let keys = KnownKeys.encoders.adding(
        used: [
            "rope.freq_base", "rope.freq_base_swa", "attention.sliding_window", "attention.sliding_window_pattern",
            "hidden_activation", "rope.scaling.type",
        ],
        // Of another norm, which the family does not have.
        harmless: ["attention.layer_norm_rms_epsilon"])

    struct Layer {
        /// nil in the first layer, where the embedding's norm stands for it.
        let attentionNorm: LayerNorm?
        let attention: FusedAttentionWeights
        let feedForwardNorm: LayerNorm
        /// What is activated, and then its gate, in one matrix.
        let up: BiasedLinear
        let down: BiasedLinear
    }

    let config: EncoderConfig
    let tokens: LinearRef
    let embeddingNorm, outputNorm: LayerNorm
    let layers: [Layer]
    let denses: [EncoderDense]
    /// GELU; SiLU in some descendants.
    private let activation: EncoderStep.GateActivation

    init(_ weights: WeightLoader) throws {
        let c = try Self.config(weights)
        config = c
        activation = try Self.activation(weights.metadata)
        tokens = try weights.matrix("token_embd.weight", n: c.vocabulary, k: c.hidden, layer: -1)
        func norm(_ name: String) throws -> LayerNorm { try weights.layerNorm(name, n: c.hidden, biases: false) }
        (embeddingNorm, outputNorm) = (try norm("token_embd_norm"), try norm("output_norm"))
        layers = try (0..<c.layers).map { l in
            let first = "blk.\(l).attn_norm"
            return Layer(
                attentionNorm: l == 0 && !weights.has("\(first).weight") ? nil : try norm(first),
                attention: try weights.fusedAttention(l, c), feedForwardNorm: try norm("blk.\(l).ffn_norm"),
                up: try weights.linear("blk.\(l).ffn_up", n: 2 * c.feedForward, k: c.hidden, layer: l, biases: false),
                down: try weights.linear("blk.\(l).ffn_down", n: c.hidden, k: c.feedForward, layer: l, biases: false))
        }
        denses = try weights.encoderDenses(c)
    }

    private static func config(_ weights: WeightLoader) throws -> EncoderConfig {
        let metadata = weights.metadata
        var c = try weights.encoderConfig(architecture, classifierPooling: .mean, classifierActivation: .gelu)
        (c.isFused, c.gate) = (true, .fused)
        if let type = metadata.string("modern-bert.rope.scaling.type"), type != "none" {
            throw FormatError("modern-bert.rope.scaling.type \"\(type.prefix(80))\" is not supported (none is)")
        }
        let global = try weights.encoderRotary("modern-bert.rope.freq_base", usual: 160_000, c)
        let local = try weights.encoderRotary("modern-bert.rope.freq_base_swa", usual: 10_000, c)
        c.rotaries = [global, local]
        let key = "modern-bert.attention.sliding_window"
        let window = metadata.integer(key) ?? 0
        // Half of it lies on each side of a token.
        guard metadata[key] == nil || (2...1 << 20).contains(window) else { throw FormatError("\(key) is \(window)") }
        let isLocal = try localLayers(metadata, count: c.layers)
        c.windows = isLocal.map { $0 ? window / 2 : 0 }
        return c
    }

    /// Which layers see a window: all but every third from the first on, or as the file says: that number, or a list.
    private static func localLayers(_ metadata: Metadata, count: Int) throws -> [Bool] {
        let key = "modern-bert.attention.sliding_window_pattern"
        if let list = metadata.array(key)?.integers() {
            guard list.count >= count else { throw FormatError("\(key) has \(list.count) of \(count) layers") }
            return list.prefix(count).map { $0 != 0 }
        }
        let period = metadata[key] == nil ? 3 : try metadata.requiredCount(key, limit: 1024)
        return (0..<count).map { $0 % period != 0 }
    }

    private static func activation(_ metadata: Metadata) throws -> EncoderStep.GateActivation {
        let name = metadata.string("modern-bert.hidden_activation") ?? "gelu"
        guard let activation = EncoderStep.GateActivation(rawValue: name) else {
            throw FormatError("modern-bert.hidden_activation \"\(name.prefix(80))\" is not supported (gelu, silu are)")
        }
        return activation
    }

    func embed(_ s: EncoderStep) { s.embed(tokens, positions: nil, types: nil, embeddingNorm) }

    func run(_ layer: Int, _ s: EncoderStep) {
        let w = layers[layer]
        s.project(s.hidden, normalized: w.attentionNorm, w.attention.qkv, to: s.q)
        s.attend(layer, w.attention, rotary: config.windows[layer] == 0 ? 0 : 1)
        s.project(s.attended, w.attention.output, to: s.part)
        s.add(s.part)
        s.project(s.hidden, normalized: w.feedForwardNorm, w.up, to: s.wide)
        s.projectGated(activation, w.down, to: s.part)
        s.add(s.part)
    }

    func finish(_ s: EncoderStep) { s.normalize(outputNorm) }
}
