import CKernels
import ModelFormat
import Text

/// One sequence's share of a step: its next tokens, and whether it wants logits.
public struct StepInput {
    public enum Logits: Sendable { case none, last, all }

    public let sequence: KVSequence
    public let tokens: ArraySlice<Int32>
    public let logits: Logits

    public init(sequence: KVSequence, tokens: some Sequence<Int32>, logits: Logits) {
        self.sequence = sequence
        self.tokens = ArraySlice(tokens)
        self.logits = logits
    }
}

/// How a model is run.
public struct ModelOptions: Sendable {
    /// Tokens of a sequence at most; nil for the model's own length.
    public var contextLimit: Int?
    /// Sequences at once.
    public var sequences: Int
    /// What dequantized layers are expanded to.
    public var precision: ExpandedPrecision

    public init(contextLimit: Int? = nil, sequences: Int = 16, precision: ExpandedPrecision = .f16) {
        self.contextLimit = contextLimit
        self.sequences = sequences
        self.precision = precision
    }
}

/// A loaded decoder: weights in the mapping, a KV cache, and a mode for each layer.
///
/// Used by the engine thread alone, but for ``expansion(of:)``, which hands out values for other threads.
public final class DecoderModel {
    public let file: EbbFile
    public let tokenizer: Tokenizer
    /// nil for base models.
    public let template: ChatTemplate?
    public var config: DecoderConfig { family.config }
    public let contextLimit: Int
    public let precision: ExpandedPrecision
    private let family: any DecoderFamily
    private let weights: WeightSet
    private let step: Step
    public let kvPool: KVPool
    private let rings: [Int]
    private var expansions: [ExpandedLayer?]
    private var logitsMemory: AnonymousMemory

    /// Rows of logits that are computed at a time.
    private static let logitsRows = 32

    /// - Throws: ``FormatError``, `TextError` or ``EngineError``.
    public init(_ file: EbbFile, pool: WorkerPool, kernels: Kernels, options: ModelOptions = ModelOptions()) throws {
        let loader = WeightLoader(file)
        self.file = file
        family = try DecoderFamilies.family(file).init(loader)
        weights = loader.weights
        let config = family.config
        tokenizer = try Tokenizer(file.metadata)
        template = try ChatTemplate(file.metadata, tokenizer: tokenizer)
        contextLimit = min(options.contextLimit ?? config.contextLength, config.contextLength)
        precision = options.precision
        step = try Step(config: config, kernels: kernels, pool: pool)
        let limit = contextLimit
        rings = config.windows.map { window in
            // A window of whole blocks, and the one that is being filled.
            let ring = (window + KVPool.tokensPerBlock - 1) / KVPool.tokensPerBlock + 1
            return window > 0 && ring * KVPool.tokensPerBlock < limit ? ring : 0
        }
        let blocks = (contextLimit + KVPool.tokensPerBlock - 1) / KVPool.tokensPerBlock
        kvPool = try KVPool(
            kvHeads: config.kvHeads, headDim: config.headDim,
            capacity: blocks * config.layers * max(1, options.sequences))
        expansions = Array(repeating: nil, count: config.layers + 1)
        logitsMemory = try AnonymousMemory(byteCount: Self.logitsRows * config.vocabulary * 4)
    }

    /// A new, empty sequence.
    public func makeSequence() -> KVSequence { KVSequence(pool: kvPool, rings: rings, limit: contextLimit) }

    /// Rows that one step takes at most.
    public var rowLimit: Int { Step.rowLimit }

    /// Runs a batch through all layers. `onLogits` is called for every row that wants logits, in order, with the
    /// input's index, the token's index in it, and the logits [vocabulary], which are valid during the call only.
    /// - Throws: ``EngineError`` before anything has been computed: too many rows, a token outside the vocabulary, no
    ///   room in the context or the KV cache.
    public func run(_ batch: [StepInput], onLogits: (Int, Int, UnsafeMutableBufferPointer<Float>) -> Void) throws {
        let rows = batch.reduce(0) { $0 + $1.tokens.count }
        guard rows > 0 else { return }
        guard rows <= Step.rowLimit else {
            throw EngineError("a step of \(rows) tokens: at most \(Step.rowLimit) are possible")
        }
        for input in batch {
            for token in input.tokens where token < 0 || token >= config.vocabulary {
                throw EngineError("token \(token) is outside the vocabulary (0 to \(config.vocabulary - 1))")
            }
        }
        try step.admit(rows: rows)
        defer { step.end() }
        for input in batch { try input.sequence.reserve(input.tokens.count) }
        step.begin(batch.map(rebased), embedding: family.embedding, scale: family.embeddingScale)
        for layer in 0..<config.layers { family.run(layer, step) }
        for input in batch { input.sequence.advance(input.tokens.count) }
        try giveLogits(batch, onLogits)
    }

    private func rebased(_ input: StepInput) -> StepInput {
        StepInput(sequence: input.sequence, tokens: Array(input.tokens), logits: input.logits)
    }

    private func giveLogits(
        _ batch: [StepInput], _ onLogits: (Int, Int, UnsafeMutableBufferPointer<Float>) -> Void
    ) throws {
        var wanted: [Int] = []
        var origins: [(input: Int, token: Int)] = []
        var first = 0
        for (index, input) in batch.enumerated() {
            let count = input.tokens.count
            let tokens = input.logits == .all ? 0..<count : input.logits == .last ? max(0, count - 1)..<count : 0..<0
            for token in tokens {
                wanted.append(first + token)
                origins.append((index, token))
            }
            first += count
        }
        let out = logitsMemory.base.assumingMemoryBound(to: Float.self)
        for start in stride(from: 0, to: wanted.count, by: Self.logitsRows) {
            let end = min(start + Self.logitsRows, wanted.count)
            try step.logits(wanted[start..<end], norm: family.outputNorm, head: family.head, out: out)
            for index in start..<end {
                let row = UnsafeMutableBufferPointer(
                    start: out + (index - start) * config.vocabulary, count: config.vocabulary)
                onLogits(origins[index].input, origins[index].token, row)
            }
        }
    }

    // MARK: Modes

    /// Layers that can be expanded: the decoder's, and last the output head.
    public var layerCount: Int { config.layers + 1 }

    /// Bytes that a layer's expansion takes.
    public func expandedBytes(_ layer: Int) -> Int {
        weights.linears(of: layer).reduce(0) { $0 + $1.pointee.expandedBytes(precision) }
    }

    public func isExpanded(_ layer: Int) -> Bool { expansions[layer] != nil }

    public var expandedLayers: Int { expansions.count { $0 != nil } }

    /// Bytes of all expansions in place.
    public var expandedBytes: Int { expansions.reduce(0) { $0 + ($1?.byteCount ?? 0) } }

    /// Bytes of buffers for a step's rows and logits; untouched pages of them take no memory.
    public var scratchBytes: Int { step.byteCount + logitsMemory.byteCount }

    /// Bytes of the weights in the file.
    public var mappedBytes: Int { file.byteCount }

    /// What it takes to expand a layer, for a thread of its own.
    public func expansion(of layer: Int) -> LayerExpansion {
        LayerExpansion(
            layer: layer, file: file, matrices: weights.linears(of: layer).map(\.pointee.mapped), precision: precision)
    }

    /// Puts an expansion to use: from the next step on the layer is dequantized.
    public func install(_ expanded: ExpandedLayer) {
        for (ref, base) in zip(weights.linears(of: expanded.layer), expanded.bases) {
            if let base { ref.pointee.use(expansion: base, precision) }
        }
        expansions[expanded.layer] = expanded
    }

    /// Drops a layer's expansion: from the next step on it runs in memory_low. Its memory goes back at once.
    public func drop(_ layer: Int) {
        for ref in weights.linears(of: layer) { ref.pointee.dropExpansion() }
        expansions[layer] = nil
    }

    /// Expands or drops all layers, here and now.
    public func setAll(expanded: Bool, kernels: Kernels) throws {
        for layer in 0..<layerCount where isExpanded(layer) != expanded {
            if expanded { install(try expansion(of: layer).run(kernels)) } else { drop(layer) }
        }
    }
}
