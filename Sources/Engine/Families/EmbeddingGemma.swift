import ModelFormat

/// EmbeddingGemma (Vera et al. 2025): Gemma 3 whose tokens see those after them as well, and windows on both sides.
struct EmbeddingGemma: DecoderFamily {
    static let architecture = "gemma-embedding"
    static let keys = Gemma3.keys
    static let seesBothSides = true

    private let gemma: Gemma3
    var config: DecoderConfig { gemma.config }
    var outer: OuterWeights { gemma.outer }
    var embeddingScale: Float { gemma.embeddingScale }

    init(_ weights: WeightLoader) throws { gemma = try Gemma3(weights, prefix: Self.architecture) }

    func run(_ layer: Int, _ s: DecoderStep) { gemma.run(layer, s) }
}
