import ModelFormat

/// A decoder that makes embeddings (Wang et al. 2024; Zhang et al. 2025): its layers run on whole texts, and what pooling
/// makes of their rows takes the place of logits.
struct EmbeddingDecoder<Decoder: DecoderFamily>: TextFamily {
    static var architecture: String { Decoder.architecture }
    static var keys: KnownKeys { Decoder.keys.adding(used: KnownKeys.embedding) }

    let config: EncoderConfig
    let denses: [EncoderDense]
    private let decoder: Decoder
    private let seesBothSides: Bool

    init(_ weights: WeightLoader) throws {
        let name = Self.architecture
        decoder = try Decoder(weights)
        config = try weights.encoderConfig(name, of: decoder.config)
        denses = try weights.encoderDenses(config)
        seesBothSides = weights.metadata.bool("\(name).attention.causal").map { !$0 } ?? Decoder.seesBothSides
    }

    func makeStep(kernels: Kernels, pool: WorkerPool, gathers: Bool) throws -> any TextStep {
        try DecoderTextStep(self, decoder, seesBothSides: seesBothSides, kernels: kernels, pool: pool, gathers: gathers)
    }
}
