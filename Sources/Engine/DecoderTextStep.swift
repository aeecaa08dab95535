/// Whole texts on their way through a decoder's layers. What is pooled are the rows after the last norm.
///
/// Used by one thread at a time.
final class DecoderTextStep: TextRows, TextStep {
    private let decoder: any DecoderFamily
    private let step: DecoderStep
    private let attention: EncoderAttention

    /// - Parameter seesBothSides: whether a token sees those after it, too.
    init(
        _ family: any TextFamily, _ decoder: any DecoderFamily, seesBothSides: Bool, kernels: Kernels, pool: WorkerPool,
        gathers: Bool
    ) throws {
        self.decoder = decoder
        let longest = family.config.contextLength
        var config = decoder.config
        config.rotaries = config.rotaries.map { $0.chosen(contextLimit: longest) }
        let attention = try EncoderAttention(
            width: config.queryWidth, headDim: config.headDim, longest: longest, kernels: kernels,
            threads: pool.threads)
        self.attention = attention
        // A text has the same embedding alone and with others.
        step = try DecoderStep(
            config: config, kernels: kernels, pool: pool, capacity: Self.capacity(family.config), isSteady: true,
            gathers: gathers
        ) { [config] buffers, workspace in
            TextAttention(
                config: config, seesBothSides: seesBothSides, attention, kernels: kernels, pool: pool, buffers,
                in: workspace)
        }
        try super.init(family, step.products, hidden: step.residual, kernels: kernels, pool: pool)
    }

    var regions: [MemoryRegion] {
        step.regions + [attention.region] + (embeddings.map { [$0.region] } ?? [])
    }

    var expertUse: ExpertUse? { step.experts?.use }

    func admit(rows: Int) throws { try step.admit(rows: rows, orWidth: embeddingWidth) }

    func bytes(rows: Int) -> Int { step.bytes(rows: rows) + attention.region.byteCount }

    func discard() {
        step.discard()
        attention.discard()
        embeddings?.discard()
    }

    func embed() { step.begin(texts, embedding: decoder.outer.embedding, scale: decoder.embeddingScale) }

    func run(_ layer: Int) {
        decoder.run(layer, step)
        // Whoever looks between two layers finds all of the residual stream.
        step.settle()
    }

    func finish() {
        step.finish(0..<rows, decoder.outer.outputNorm, to: hidden)
        step.end()
    }
}
