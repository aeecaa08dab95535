import Engine
import Text

/// What a generation tells its client.
enum GenerationEvent: Sendable {
    case delta(AnswerPart, tokens: Int)
    case finished(GenerationSummary)
    case failed(ServiceError)
}

struct GenerationSummary: Sendable {
    enum Reason: Sendable { case stop, length }
    var reason: Reason
    var promptTokens: Int
    var generatedTokens: Int
    var prefillSeconds: Double
    var decodeSeconds: Double
    var modeChanges: Int
    /// Prompt tokens that were in the KV cache already.
    var reusedTokens: Int
}

/// What a client asks for, in tokens.
struct GenerationRequest: Sendable {
    var prompt: [Int32]
    var sampling: SamplingParameters
    /// nil: until the model ends or the context is full.
    var maxTokens: Int?
    var stop: [String]
    var origin: RequestOrigin
    /// All steps in one arithmetic, whatever the governor does.
    var isReproducible = false
    /// What tells the channels of the answer apart; nil where all of it is the answer.
    var channels: ChannelReader?
    /// What is applied beside the model's weights, in the order of their names.
    var adapters: [AdapterUse] = []
    /// Whether other users' requests may continue the kept conversation.
    var sharesPrefix = false

    init(
        prompt: [Int32], sampling: SamplingParameters, maxTokens: Int? = nil, stop: [String] = [],
        origin: RequestOrigin
    ) {
        self.prompt = prompt
        self.origin = origin
        self.sampling = sampling
        self.maxTokens = maxTokens
        self.stop = stop
    }
}
