import ModelFormat
import Text

/// The numbers of a decoder that the engine needs to know.
public struct DecoderConfig: Sendable {
    public var layers: Int
    /// Length of the residual stream.
    public var hidden: Int
    public var heads: Int
    public var kvHeads: Int
    public var headDim: Int
    public var feedForward: Int
    public var vocabulary: Int
    /// Tokens the model was trained for.
    public var contextLength: Int
    public var epsilon: Float
    /// The rotary embeddings that layers choose from.
    public var rotaries: [Rotary]
    /// For each layer, how many tokens it sees (itself included), or 0 for all.
    public var windows: [Int]

    /// Where layers are mixtures of experts.
    public var experts: ExpertConfig?

    var queryWidth: Int { heads * headDim }
    /// The most outputs that a layer's weight has.
    var widestOutput: Int { max(hidden, queryWidth, feedForward, experts?.count ?? 0) }
    var keyWidth: Int { kvHeads * headDim }
}

/// A model family: which weights it has, and its equations. One file each; ``ModelFamilies`` lists them.
protocol DecoderFamily: SendableMetatype {
    /// The name in `general.architecture`.
    static var architecture: String { get }
    /// The metadata keys `ARCHITECTURE.…` that the family knows.
    static var keys: KnownKeys { get }
    /// Whether a token sees those after it, too, where the file does not say it: such a model makes embeddings alone.
    static var seesBothSides: Bool { get }
    var config: DecoderConfig { get }
    /// Embedding and output head.
    var outer: OuterWeights { get }
    /// Multiplied into the input embedding.
    var embeddingScale: Float { get }
    /// Multiplied into the logits.
    var logitScale: Float { get }
    /// Logits z become softcap * tanh(z / softcap) (Gemma Team 2024); 0 for none.
    var logitSoftcap: Float { get }

    /// Reads the hyperparameters and asks for every weight with the shape they demand.
    /// - Throws: ``FormatError`` where the metadata and the tensors contradict each other.
    init(_ weights: WeightLoader) throws
    /// Runs layer `layer` on the rows of a step.
    func run(_ layer: Int, _ step: DecoderStep)
}

extension DecoderFamily {
    static var seesBothSides: Bool { false }
    var embeddingScale: Float { 1 }
    var logitScale: Float { 1 }
    var logitSoftcap: Float { 0 }
}

/// The families that this engine knows: the decoders, and the encoders (``EncoderFamily``).
public enum ModelFamilies {
    static let all: [any DecoderFamily.Type] = [
        Llama.self, Qwen2.self, Qwen3.self, Qwen3Moe.self, Olmo2.self, Olmoe.self, Gemma2.self, Gemma3.self, Phi3.self,
        Granite.self, SmolLM3.self, GptOss.self,
    ]

    static func family(_ description: some ModelDescription) throws -> any DecoderFamily.Type {
        let name = description.metadata.string("general.architecture") ?? "none"
        guard let family = all.first(where: { $0.architecture == name }) else {
            let known = (all.map { $0.architecture } + encoders.map { $0.architecture }).joined(separator: ", ")
            throw FormatError(
                "\(description.path): the architecture \"\(name)\" is not supported (supported: \(known))")
        }
        return family
    }

    /// A decoder of a known family, everything in whose file is used.
    static func decoder(_ loader: WeightLoader, of description: some ModelDescription) throws -> any DecoderFamily {
        let type = try family(description)
        return try loader.covered(type.architecture, type.keys) { try type.init(loader) }
    }

    /// Checks that a file holds a model that this engine can run, before it is imported.
    /// - Throws: ``FormatError`` or `TextError` with the reason.
    public static func check(_ description: some ModelDescription) throws {
        if encoderFamily(description.metadata) != nil {
            let family = try encoder(WeightLoader(checking: description))
            let prompts = try EmbeddingPrompts(description.metadata)
            guard !prompts.isEmpty else { return }
            try prompts.demandRoom(try Tokenizer(description.metadata), limit: family.config.maxTokens)
        } else {
            _ = try decoder(WeightLoader(checking: description), of: description)
        }
    }
}
