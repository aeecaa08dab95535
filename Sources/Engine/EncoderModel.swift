import CKernels
import ModelFormat
import Text

/// A loaded encoder: texts in, embeddings out.
public final class EncoderModel: LayeredModel {
    public let tokenizer: Tokenizer
    public var config: EncoderConfig { family.config }
    let family: Bert
    let step: EncoderStep

    /// - Throws: ``FormatError``, `TextError` or ``EngineError``.
    public init(_ file: EbbFile, pool: WorkerPool, kernels: Kernels, precision: ExpandedPrecision = .f16) throws {
        let loader = WeightLoader(file)
        family = try ModelFamilies.encoder(loader)
        tokenizer = try Tokenizer(file.metadata)
        guard tokenizer.vocabularySize == family.config.vocabulary else {
            throw FormatError(
                "\(file.path): the vocabulary has \(tokenizer.vocabularySize) tokens, but the embedding has "
                    + "\(family.config.vocabulary) rows")
        }
        step = try EncoderStep(config: family.config, kernels: kernels, pool: pool)
        super.init(
            file, loader.weights, layers: family.config.layers, precision: precision, kernels: kernels, pool: pool)
    }

    /// Whether a file holds an encoder.
    public static func isEncoder(_ file: EbbFile) -> Bool { isEncoder(file.metadata) }

    public static func isEncoder(_ metadata: Metadata) -> Bool {
        metadata.string("general.architecture") == Bert.architecture
    }

    /// Tokens that one step takes at most.
    public static var rowLimit: Int { EncoderStep.rowLimit }

    public override var scratchRegions: [MemoryRegion] { step.regions }
    public override var scratchBytes: Int { step.bytes(rows: Self.rowLimit) }
    public override func discardScratch() { step.discard() }
    public override var contextLimit: Int { config.maxTokens }

    /// A text's tokens, cut to what the model takes with [CLS] and [SEP].
    public func tokens(_ text: String) -> [Int32] { Self.tokens(text, tokenizer, limit: config.maxTokens) }

    /// The same, without the model.
    public static func tokens(_ text: String, _ tokenizer: Tokenizer, limit: Int) -> [Int32] {
        cut(tokenizer.encode(text, addSpecial: true, parseSpecial: false), limit: limit)
    }

    /// Tokens of a text, with [CLS] and [SEP], cut to what the model takes.
    public static func cut(_ ids: [Int32], limit: Int) -> [Int32] {
        guard ids.count > limit, let end = ids.last else { return ids }
        return Array(ids.prefix(limit - 1)) + [end]
    }

    /// The embedding of each text, [embeddingLength], from its tokens. Texts are run together, without padding.
    /// - Throws: ``EngineError`` for an empty or too long text, a token outside the vocabulary, or an embedding that has
    ///   become NaN or infinite.
    public func embed(_ batch: [[Int32]]) throws -> [[Float]] { try embedEach(batch).map { try $0.get() } }

    /// The same, where texts fail each for itself once they are computed: with an error that names the layer.
    /// - Throws: ``EngineError`` before anything has been computed.
    public func embedEach(_ batch: [[Int32]]) throws -> [Result<[Float], EngineError>] {
        try batch.forEach(check)
        var found: [Result<[Float], EngineError>] = []
        found.reserveCapacity(batch.count)
        for piece in pieces(batch) {
            try begin(piece)
            pieceThreads.begin(rows: piece.reduce(0) { $0 + $1.count })
            for layer in 0..<config.layers {
                pieceThreads.run(isLayer: true) { family.run(layer, step) }
                betweenLayers?()
            }
            pieceThreads.end()
            var embeddings: [[Float]?] = []
            step.pool(family) { _, embedding in embeddings.append(embedding) }
            for (tokens, embedding) in zip(piece, embeddings) {
                try found.append(embedding.map(Result.success) ?? .failure(locate(tokens)))
            }
        }
        return found
    }

    /// Runs a text once more, and says after which layer it is no numbers any more.
    private func locate(_ tokens: [Int32]) throws -> EngineError {
        try begin([tokens])
        if !step.isSound() { return Self.fault("the embedding") }
        for layer in 0..<config.layers {
            family.run(layer, step)
            betweenLayers?()
            if !step.isSound() { return Self.fault("layer \(layer)") }
        }
        return Self.fault("what follows the last layer")
    }

    private static func fault(_ place: String) -> EngineError {
        EngineError(
            .numeric,
            "the embedding has become NaN or infinite in \(place); the model's weights are damaged (ebbctl verify looks at "
                + "them)")
    }

    func check(_ tokens: [Int32]) throws {
        guard !tokens.isEmpty else { throw EngineError("there is nothing to embed: the text has no tokens") }
        guard tokens.count <= config.contextLength else {
            throw EngineError("a text of \(tokens.count) tokens: at most \(config.contextLength) are possible")
        }
        for token in tokens where token < 0 || token >= config.vocabulary {
            throw EngineError("token \(token) is outside the vocabulary (0 to \(config.vocabulary - 1))")
        }
    }

    func begin(_ piece: ArraySlice<[Int32]>) throws {
        try step.admit(rows: piece.reduce(0) { $0 + $1.count })
        step.begin(piece, family)
    }

    /// Cuts a batch into steps.
    func pieces(_ batch: [[Int32]]) -> [ArraySlice<[Int32]>] {
        var pieces: [ArraySlice<[Int32]>] = []
        var (start, rows) = (0, 0)
        for (index, tokens) in batch.enumerated() {
            if index > start, rows + tokens.count > EncoderStep.rowsAtOnce {
                pieces.append(batch[start..<index])
                (start, rows) = (index, 0)
            }
            rows += tokens.count
        }
        if start < batch.count { pieces.append(batch[start...]) }
        return pieces
    }
}
