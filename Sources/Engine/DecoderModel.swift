import CKernels
import ModelFormat
import Text

/// One sequence's share of a step: its next tokens, and whether it wants logits.
public struct StepInput {
    public enum Logits: Sendable { case none, last, all }

    public let sequence: KVSequence
    public let tokens: ArraySlice<Int32>
    public let logits: Logits
    /// What is applied beside the model's weights.
    public var adapters: [AdapterUse]

    public init(
        sequence: KVSequence, tokens: some Sequence<Int32>, logits: Logits, adapters: [AdapterUse] = []
    ) {
        self.sequence = sequence
        self.tokens = ArraySlice(tokens)
        self.logits = logits
        self.adapters = adapters
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

/// A loaded decoder: a ``LayeredModel`` with a tokenizer and a KV cache.
public final class DecoderModel: LayeredModel {
    public let tokenizer: Tokenizer
    public var config: DecoderConfig { family.config }
    public override var contextLimit: Int { limit }
    private let limit: Int
    private let family: any DecoderFamily
    private let step: DecoderStep
    public let kvPool: KVPool
    private let rings: [Int]
    private var logitsMemory: AnonymousMemory

    /// Next tokens of so many sequences can go through one step and get the same bits as each alone, on every instruction
    /// set: more rows, or floats, go through kernels that add in another order.
    /// - Parameter isDequantized: whether all layers run dequantized, or all in memory_low.
    public func steadyRows(isDequantized: Bool) -> Int { !isDequantized && isQuantized ? 4 : 1 }

    /// Rows of logits that are computed at a time.
    package static let logitsRows = 32

    /// - Throws: ``FormatError``, `TextError` or ``EngineError``.
    public init(_ file: EbbFile, pool: WorkerPool, kernels: Kernels, options: ModelOptions = ModelOptions()) throws {
        let loader = WeightLoader(file)
        family = try ModelFamilies.decoder(loader, of: file)
        let config = family.config
        tokenizer = try Tokenizer(file.metadata)
        limit = min(options.contextLimit ?? config.contextLength, config.contextLength)
        let limit = limit
        rings = config.windows.map { window in
            // A window of whole blocks, and the one that is being filled.
            let ring = (window + KVPool.tokensPerBlock - 1) / KVPool.tokensPerBlock + 1
            return window > 0 && ring * KVPool.tokensPerBlock < limit ? ring : 0
        }
        let blocks = (limit + KVPool.tokensPerBlock - 1) / KVPool.tokensPerBlock
        kvPool = try KVPool(
            kvHeads: config.kvHeads, headDim: config.headDim,
            capacity: blocks * config.layers * max(1, options.sequences), kernels: kernels)
        var turned = config
        turned.rotaries = config.rotaries.map { $0.chosen(contextLimit: limit) }
        step = try DecoderStep(
            config: turned, kernels: kernels, pool: pool, gathers: loader.weights.hasOrders
        ) { [kvPool, turned] buffers, workspace in
            DecoderAttention(
                config: turned, cache: kvPool, kernels: kernels, pool: pool, buffers, in: workspace)
        }
        logitsMemory = try AnonymousMemory(byteCount: Self.logitsRows * config.vocabulary * 4)
        super.init(
            file, loader.weights, layers: config.layers + 1, precision: options.precision, kernels: kernels, pool: pool)
    }

    /// A new, empty sequence.
    public func makeSequence() -> KVSequence { KVSequence(pool: kvPool, rings: rings, limit: contextLimit) }

    /// Rows that one step takes at most.
    public var rowLimit: Int { DecoderStep.rowLimit }

    /// Runs a batch through all layers. `onLogits` is called for every row that wants logits, in order, with the
    /// input's index, the token's index in it, and the logits [vocabulary], which are valid during the call only.
    /// - Throws: ``EngineError`` before anything has been computed: too many rows, a token outside the vocabulary, no
    ///   room in the context or the KV cache; and after it, where a sequence has become NaN or infinite.
    public func run(_ batch: [StepInput], onLogits: (Int, Int, UnsafeMutableBufferPointer<Float>) -> Void) throws {
        var first: EngineError?
        try run(batch, onFault: { first = first ?? $1 }, onLogits: onLogits)
        if let first { throw first }
    }

    /// The same, where sequences fail each for itself.
    /// - Parameter onFault: called once for an input, before its logits or instead of the rest of them, with the index of an input whose values have become NaN or infinite
    ///   and an error that names the layer. It gets no logits, and its sequence is of no use any more; the others go on.
    public func run(
        _ batch: [StepInput], onFault: (Int, EngineError) -> Void,
        onLogits: (Int, Int, UnsafeMutableBufferPointer<Float>) -> Void
    ) throws {
        let rows = batch.reduce(0) { $0 + $1.tokens.count }
        guard rows > 0 else { return }
        guard rows <= DecoderStep.rowLimit else {
            throw EngineError("a step of \(rows) tokens: at most \(DecoderStep.rowLimit) are possible")
        }
        for input in batch {
            for token in input.tokens where token < 0 || token >= config.vocabulary {
                throw EngineError("token \(token) is outside the vocabulary (0 to \(config.vocabulary - 1))")
            }
        }
        guard batch.allSatisfy({ $0.adapters.allSatisfy { $0.adapter.fits(self) } }) else {
            throw EngineError(.unusable, "an adapter was loaded for another model")
        }
        try step.admit(rows: rows, batch)
        defer { step.end() }
        for input in batch { try input.sequence.reserve(input.tokens.count) }
        let wanted = Self.wanted(batch)
        begin(batch, wanted: wanted.map(\.row))
        pieceThreads.begin(rows: rows)
        defer { pieceThreads.end() }
        for layer in 0..<config.layers {
            // The last layer drops the rows that nobody asks for.
            let isLayer = layer < config.layers - 1 || wanted.count == rows
            pieceThreads.run(isLayer: isLayer) { family.run(layer, step) }
            betweenLayers?()
        }
        let faults = faults(batch)
        for input in batch { input.sequence.advance(input.tokens.count) }
        for (input, error) in faults.sorted(by: { $0.key < $1.key }) { onFault(input, error) }
        try giveLogits(wanted, of: batch, faults, onFault, onLogits)
    }

    private func begin(_ batch: [StepInput], wanted: [Int]?) {
        step.begin(batch, wanted: wanted, embedding: family.outer.embedding, scale: family.embeddingScale)
    }

    // MARK: Faults

    /// Errors for the inputs that have become NaN or infinite. To name the layer they go through the layers once more, and
    /// are looked at after each.
    private func faults(_ batch: [StepInput]) -> [Int: EngineError] {
        let unsound = step.unsoundInputs().sorted()
        guard !unsound.isEmpty else { return [:] }
        let rows = step.snapshot()
        defer { step.restore(rows) }
        begin(unsound.map { batch[$0] }, wanted: nil)
        var found: [Int: EngineError] = [:]
        func look(_ place: String) {
            for index in step.unsoundInputs() where found[unsound[index]] == nil {
                found[unsound[index]] = Self.fault(place, batch[unsound[index]])
            }
        }
        look("the embedding")
        for layer in 0..<config.layers where found.count < unsound.count {
            family.run(layer, step)
            betweenLayers?()
            look("layer \(layer)")
        }
        for index in unsound where found[index] == nil { found[index] = Self.fault("the last layer", batch[index]) }
        return found
    }

    private static func fault(_ place: String, _ input: StepInput) -> EngineError {
        let adapters = input.adapters.isEmpty ? "" : "one of its adapters is far too strong, or "
        return EngineError(
            .numeric,
            "the computation has become NaN or infinite in \(place); \(adapters)the model's weights are damaged, or not made for this "
                + "arithmetic (ebbctl verify looks at them)")
    }

    // MARK: Calibration

    package override var probe: (any ActivationProbe)? {
        get { step.products.probe }
        set { step.products.probe = newValue }
    }

    /// The residual stream, [rows][hidden].
    package var residual: UnsafeMutablePointer<Float> { step.residual }

    /// Prepares a step of one new sequence for ``runLayer(_:)``, and ends it after `body`.
    package func withSingleSequence(_ tokens: [Int32], _ body: () throws -> Void) throws {
        let sequence = makeSequence()
        let batch = [StepInput(sequence: sequence, tokens: tokens, logits: .none)]
        try step.admit(rows: tokens.count)
        defer { step.end() }
        try sequence.reserve(tokens.count)
        begin(batch, wanted: nil)
        try body()
    }

    /// Logits [rows][vocabulary] of the last run of the output head by ``runLayer(_:)``.
    package private(set) var lastLogits = UnsafeMutableBufferPointer<Float>(start: nil, count: 0)

    /// Runs one layer on the residual stream; the layer after the last is the output head.
    package func runLayer(_ layer: Int) throws {
        guard layer < config.layers else {
            let rows = 0..<min(step.rowCount, Self.logitsRows)
            let out = logitsMemory.base.assumingMemoryBound(to: Float.self)
            lastLogits = UnsafeMutableBufferPointer(start: out, count: rows.count * config.vocabulary)
            return try step.logits(rows, of: family, out: out)
        }
        family.run(layer, step)
        step.settle()
    }

    /// A row whose logits are asked for: its number in the step, its input, its token in that.
    private typealias WantedRow = (row: Int, input: Int, token: Int)

    private static func wanted(_ batch: [StepInput]) -> [WantedRow] {
        var found: [WantedRow] = []
        var first = 0
        for (index, input) in batch.enumerated() {
            let count = input.tokens.count
            let tokens = input.logits == .all ? 0..<count : input.logits == .last ? max(0, count - 1)..<count : 0..<0
            for token in tokens { found.append((first + token, index, token)) }
            first += count
        }
        return found
    }

    private func giveLogits(
        _ wanted: [WantedRow], of batch: [StepInput], _ faults: [Int: EngineError],
        _ onFault: (Int, EngineError) -> Void,
        _ onLogits: (Int, Int, UnsafeMutableBufferPointer<Float>) -> Void
    ) throws {
        let out = logitsMemory.base.assumingMemoryBound(to: Float.self)
        var failed = Set(faults.keys)
        for start in stride(from: 0, to: wanted.count, by: Self.logitsRows) {
            let end = min(start + Self.logitsRows, wanted.count)
            try pieceThreads.run(isLayer: false) {
                try step.logits(start..<end, of: family, out: out)
            }
            for index in start..<end where !failed.contains(wanted[index].input) {
                let row = UnsafeMutableBufferPointer(
                    start: out + (index - start) * config.vocabulary, count: config.vocabulary)
                if DecoderStep.isSound(UnsafeBufferPointer(row)) {
                    onLogits(wanted[index].input, wanted[index].token, row)
                } else {
                    failed.insert(wanted[index].input)
                    onFault(wanted[index].input, Self.fault("the output head", batch[wanted[index].input]))
                }
            }
        }
    }

    override var expertUse: ExpertUse? { step.experts?.use }

    public override var kvBytes: Int { kvPool.usedBytes }

    public override var kvRegions: [MemoryRegion] { kvPool.regions }

    public override var scratchRegions: [MemoryRegion] { step.regions + [logitsMemory.region] }

    public override var scratchBytes: Int { step.bytes(rows: rowLimit) + logitsMemory.byteCount }

    public override func discardScratch() {
        step.discard()
        logitsMemory.discard()
    }

    /// Bytes of KV cache that a sequence of some tokens takes.
    public func kvBytes(tokens: Int) -> Int {
        makeSequence().missingBlocks(min(tokens, contextLimit)) * kvPool.blockBytes
    }
}
