import ModelFormat

/// The numbers of an encoder that the engine needs to know.
public struct EncoderConfig: Sendable {
    /// What of a text's rows becomes its embedding; GGUF's numbers.
    public enum Pooling: Int, Sendable { case mean = 1, cls = 2, last = 3 }

    /// GGUF's pooling type of models that rank, and the weight that they end in.
    static let rank = 4
    static let scoreWeight = "cls.output.weight"

    /// How the gate of a feed-forward part is stored.
    public enum Gate: Sendable {
        case none
        /// A matrix of its own.
        case separate
        /// In one matrix with `up`, [2 * feedForward, hidden].
        case fused
    }

    public var layers: Int
    public var hidden: Int
    public var heads: Int
    public var feedForward: Int
    public var vocabulary: Int
    /// Tokens that a step takes of a text, and position embeddings where there are any.
    public var contextLength: Int
    /// Tokens of a text at most; longer ones are cut.
    public var maxTokens: Int
    public var epsilon: Float
    public var pooling: Pooling
    /// Linear layers that embeddings pass after pooling.
    public var denses: [Dense] = []
    /// Whether embeddings have length 1.
    public var normalize: Bool
    /// Whether the dense layers end in one score of a pair of texts, instead of an embedding.
    public var isReranker = false
    /// How many of the tokens that end a text stand between the two of a pair.
    public var pairEnds = 1
    /// Queries, keys and values come out of one matrix, [3 * hidden, hidden].
    public var isFused = false
    public var gate = Gate.none
    /// The rotary embeddings that layers choose from.
    public var rotaries: [Rotary] = []
    /// For each layer, how many tokens on either side a token sees, or 0 for all; empty for all layers.
    public var windows: [Int] = []

    public struct Dense: Sendable {
        public enum Activation: String, Sendable { case identity, tanh, gelu }
        /// The tensor's, without `.weight`.
        var name: String
        public var inputs, outputs: Int
        public var activation: Activation
    }

    /// Values of an embedding.
    public var embeddingLength: Int { denses.last?.outputs ?? hidden }

    public var headDim: Int { hidden / heads }
}

/// A family of models that make something of whole texts: which weights it has, and how they run.
/// ``ModelFamilies`` lists them.
protocol TextFamily: SendableMetatype {
    /// The name in `general.architecture`.
    static var architecture: String { get }
    /// The metadata keys `ARCHITECTURE.…` that the family knows.
    static var keys: KnownKeys { get }
    var config: EncoderConfig { get }
    /// What embeddings pass after pooling, as `config.denses` describes it.
    var denses: [EncoderDense] { get }

    /// Reads the hyperparameters and asks for every weight with the shape they demand.
    /// - Throws: ``FormatError`` where the metadata and the tensors contradict each other.
    init(_ weights: WeightLoader) throws
    /// - Throws: ``EngineError`` where the system refuses the memory.
    func makeStep(kernels: Kernels, pool: WorkerPool, gathers: Bool) throws -> any TextStep
}

/// An encoder family: its weights and its equations. One file each.
protocol EncoderFamily: TextFamily {
    /// Added to the scores of attention, [buckets][heads]; nil for none.
    var relativeBias: LinearRef? { get }
    /// Makes the rows' first hidden states of their tokens.
    func embed(_ step: EncoderStep)
    /// Runs layer `layer` on the rows of a step.
    func run(_ layer: Int, _ step: EncoderStep)
    /// What follows the last layer, before pooling.
    func finish(_ step: EncoderStep)
}

extension EncoderFamily {
    var relativeBias: LinearRef? { nil }
    func finish(_ step: EncoderStep) {}

    func makeStep(kernels: Kernels, pool: WorkerPool, gathers: Bool) throws -> any TextStep {
        try EncoderStep(family: self, kernels: kernels, pool: pool, gathers: gathers)
    }
}

extension ModelFamilies {
    static let encoders: [any TextFamily.Type] = [
        Bert.self, NomicBert.self, MPNet.self, ModernBert.self, EmbeddingDecoder<EmbeddingGemma>.self,
    ]

    /// The family of a file that holds an encoder, or a decoder whose rows are pooled to embeddings.
    static func encoderFamily(_ metadata: Metadata) -> (any TextFamily.Type)? {
        guard let name = metadata.string("general.architecture") else { return nil }
        if let encoder = encoders.first(where: { $0.architecture == name }) { return encoder }
        func embedding<Decoder: DecoderFamily>(_ type: Decoder.Type) -> any TextFamily.Type {
            EmbeddingDecoder<Decoder>.self
        }
        guard metadata.integer("\(name).pooling_type").flatMap(EncoderConfig.Pooling.init) != nil,
            let decoder = all.first(where: { $0.architecture == name })
        else { return nil }
        return embedding(decoder)
    }

    /// An encoder of a known family, everything in whose file is used.
    static func encoder(_ loader: WeightLoader) throws -> any TextFamily {
        guard let type = encoderFamily(loader.metadata) else {
            throw FormatError("the file holds no encoder (\(encoders.map { $0.architecture }.joined(separator: ", ")))")
        }
        return try loader.covered(type.architecture, type.keys) { try type.init(loader) }
    }
}
