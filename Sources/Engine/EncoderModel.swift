import CKernels
import ModelFormat
import Text

/// A loaded encoder: texts in, embeddings out; or pairs of texts in, scores out.
public final class EncoderModel: LayeredModel {
    public let tokenizer: Tokenizer
    public var config: EncoderConfig { family.config }
    /// What may stand before texts.
    public let prompts: EmbeddingPrompts
    private let family: any TextFamily
    private let step: any TextStep

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
        prompts = try EmbeddingPrompts(file.metadata)
        step = try family.makeStep(kernels: kernels, pool: pool, gathers: loader.weights.hasOrders)
        super.init(
            file, loader.weights, layers: family.config.layers, precision: precision, kernels: kernels, pool: pool)
    }

    override var expertUse: ExpertUse? { step.expertUse }

    /// Whether a file holds an encoder.
    public static func isEncoder(_ file: EbbFile) -> Bool { isEncoder(file.metadata) }

    public static func isEncoder(_ metadata: Metadata) -> Bool {
        ModelFamilies.encoderFamily(metadata) != nil
    }

    /// Whether it ranks texts for a query, instead of making embeddings.
    public static func isReranker(_ model: some ModelDescription) -> Bool {
        isEncoder(model.metadata) && model.shapes.contains { $0.name == EncoderConfig.scoreWeight }
    }

    public override var scratchRegions: [MemoryRegion] { step.regions }
    public override var scratchBytes: Int { step.bytes(rows: TextRows.capacity(config)) }
    public override func discardScratch() { step.discard() }
    public override var contextLimit: Int { config.maxTokens }

    /// A text's tokens, cut to what the model takes with those around it.
    public func text(_ text: String) -> EncoderText {
        Self.cut(
            tokenizer.encode(text, addSpecial: true, parseSpecial: false), tokenizer, limit: config.maxTokens)
    }

    public func tokens(_ text: String) -> [Int32] { self.text(text).tokens }

    /// Tokens of a text and of what stands around it, cut to what a model takes; what ends it stays.
    public static func cut(_ ids: [Int32], _ tokenizer: Tokenizer, limit: Int) -> EncoderText {
        guard ids.count > limit else { return EncoderText(ids) }
        guard tokenizer.addsEOS, let end = ids.last else { return EncoderText(Array(ids.prefix(limit)), isCut: true) }
        return EncoderText(Array(ids.prefix(max(0, limit - 1))) + [end], isCut: true)
    }

    /// The embedding of each text, [embeddingLength], from its tokens. Texts are run together, without padding.
    /// - Throws: ``EngineError`` for an empty or too long text, a token outside the vocabulary, or an embedding that has
    ///   become NaN or infinite.
    public func embed(_ batch: [[Int32]]) throws -> [[Float]] { try embedEach(batch).map { try $0.get() } }

    /// The same, where texts fail each for itself once they are computed: with an error that names the layer.
    /// - Throws: ``EngineError`` before anything has been computed.
    public func embedEach(_ batch: [[Int32]]) throws -> [Result<[Float], EngineError>] {
        guard !config.isReranker else {
            throw EngineError("the model ranks texts for a query and makes no embeddings: see ebbctl rerank")
        }
        return try runEach(batch.map { EncoderText($0) })
    }

    // MARK: Pairs

    /// The tokens of a pair of texts, as a reranker reads it; where they are too many, the longer text is cut.
    public static func pair(_ first: [Int32], _ second: [Int32], _ tokenizer: Tokenizer, ends: Int, limit: Int)
        -> EncoderText
    {
        let start = tokenizer.bos.map { [$0] } ?? []
        let between = Array(repeating: tokenizer.eos, count: ends).compactMap { $0 }
        let end = tokenizer.eos.map { [$0] } ?? []
        let room = max(0, limit - start.count - between.count - end.count)
        let (half, rest, wanted) = (room / 2, room - room / 2, first.count + second.count)
        let first = first.prefix(second.count < rest ? room - second.count : max(half, room - second.count))
        let second = second.prefix(room - first.count)
        let head = start + first + between
        return EncoderText(head + second + end, second: head.count, isCut: wanted > room)
    }

    /// A pair of texts.
    public func pair(_ query: String, _ document: String) -> EncoderText {
        func plain(_ text: String) -> [Int32] { tokenizer.encode(text, addSpecial: false, parseSpecial: false) }
        return Self.pair(
            plain(query), plain(document), tokenizer, ends: config.pairEnds, limit: config.maxTokens)
    }

    /// The score of each pair: the classifier's logit, larger where the second text answers the first better.
    /// - Throws: ``EngineError`` as ``embed(_:)``, and for a model without a classification head.
    public func score(_ pairs: [EncoderText]) throws -> [Float] { try scoreEach(pairs).map { try $0.get() } }

    /// The same, where pairs fail each for itself once they are computed.
    /// - Throws: ``EngineError`` before anything has been computed.
    public func scoreEach(_ pairs: [EncoderText]) throws -> [Result<Float, EngineError>] {
        guard config.isReranker else {
            throw EngineError("the model makes embeddings and cannot rank texts: it has no classification head")
        }
        return try runEach(pairs).map { $0.map { $0.first ?? .nan } }
    }

    /// What the model makes of each text: an embedding, or one score.
    /// - Throws: ``EngineError`` before anything has been computed.
    public func runEach(_ batch: [EncoderText]) throws -> [Result<[Float], EngineError>] {
        try batch.forEach(check)
        var found: [Result<[Float], EngineError>] = []
        found.reserveCapacity(batch.count)
        for piece in pieces(batch) {
            try begin(piece)
            pieceThreads.begin(rows: step.rows)
            for layer in 0..<config.layers {
                pieceThreads.run(isLayer: true) { step.run(layer) }
                betweenLayers?()
            }
            pieceThreads.end()
            for (text, embedding) in zip(piece, pooled()) {
                try found.append(embedding.map(Result.success) ?? .failure(locate(text)))
            }
        }
        return found
    }

    /// Runs a text once more, and says after which layer it is no numbers any more.
    private func locate(_ text: EncoderText) throws -> EngineError {
        try begin([text])
        if !step.isSound() { return Self.fault("the embedding") }
        for layer in 0..<config.layers {
            step.run(layer)
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

    package func check(_ text: EncoderText) throws {
        let tokens = text.tokens
        guard !tokens.isEmpty else { throw EngineError("there is nothing to embed: the text has no tokens") }
        guard tokens.count <= config.contextLength else {
            throw EngineError("a text of \(tokens.count) tokens: at most \(config.contextLength) are possible")
        }
        for token in tokens where token < 0 || token >= config.vocabulary {
            throw EngineError("token \(token) is outside the vocabulary (0 to \(config.vocabulary - 1))")
        }
    }

    /// Takes the texts of a piece and embeds their tokens.
    package func begin(_ piece: ArraySlice<EncoderText>) throws {
        try step.admit(rows: piece.reduce(0) { $0 + $1.tokens.count })
        step.begin(piece)
        step.embed()
    }

    /// Cuts a batch into steps.
    package func pieces(_ batch: [EncoderText]) -> [ArraySlice<EncoderText>] {
        var pieces: [ArraySlice<EncoderText>] = []
        var (start, rows) = (0, 0)
        for (index, text) in batch.enumerated() {
            if index > start, rows + text.tokens.count > TextRows.rowsAtOnce {
                pieces.append(batch[start..<index])
                (start, rows) = (index, 0)
            }
            rows += text.tokens.count
        }
        if start < batch.count { pieces.append(batch[start...]) }
        return pieces
    }

    // MARK: Calibration

    package override var probe: (any ActivationProbe)? {
        get { step.products.probe }
        set { step.products.probe = newValue }
    }

    /// The residual stream, [rows][hidden].
    package var residual: UnsafeMutablePointer<Float> { step.hidden }
    package var rowCount: Int { step.rows }

    /// Runs one layer on the residual stream.
    package func runLayer(_ layer: Int) { step.run(layer) }

    /// What each text's rows become; nil for what is no numbers.
    package func pooled() -> [[Float]?] {
        step.finish()
        return step.pooled()
    }
}
