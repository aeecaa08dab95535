import EbbProtocol

/// A message of a conversation.
public struct ChatMessage: Sendable, Hashable {
    /// `system`, `user`, `assistant`, `tool`, as the model's template knows them.
    public var role: String
    public var content: String
    /// A JSON object with more members for the template (`tool_calls`), or empty.
    public var moreJSON: String
    /// A JSON array of parts, which stands in for the content: `[{"type": "text", "text": "Hi"}]`. Or empty.
    public var partsJSON: String

    public init(role: String, content: String, moreJSON: String = "") {
        (self.role, self.content, self.moreJSON, partsJSON) = (role, content, moreJSON, "")
    }

    public init(role: String, partsJSON: String, moreJSON: String = "") {
        (self.role, content, self.moreJSON, self.partsJSON) = (role, "", moreJSON, partsJSON)
    }

    var message: EbbMessage {
        var out = EbbMessage()
        (out.role, out.content, out.moreJson, out.partsJson) = (role, content, moreJSON, partsJSON)
        return out
    }
}

/// What a model's chat template is told beside the messages.
public struct TemplateOptions: Sendable, Hashable {
    /// A JSON array of descriptions of tools that may be called, or empty.
    public var toolsJSON = ""
    /// A JSON object with what else the template reads (`enable_thinking`, `reasoning_effort`), or empty.
    public var variablesJSON = ""
    /// Special tokens written in messages count as such. Otherwise they are text, and no user can end a turn.
    public var trustsText = false

    public init() {}

    func chat(_ messages: [ChatMessage]) -> EbbChat {
        var chat = EbbChat()
        chat.messages = messages.map(\.message)
        (chat.toolsJson, chat.variablesJson, chat.trustsText) = (toolsJSON, variablesJSON, trustsText)
        return chat
    }
}

/// A conversation as its model's template writes it.
public struct RenderedPrompt: Sendable, Hashable {
    public let text: String
    /// Empty unless they were asked for.
    public let tokens: [Int32]
}

/// Whose requests are served first. Within a priority users, their connections and their requests take turns.
public enum RequestPriority: String, Sendable, Hashable, CaseIterable {
    /// Someone is waiting: served before the others.
    case interactive
    case normal
    /// Runs in what the others leave.
    case background

    var value: EbbPriority {
        switch self {
        case .interactive: .interactive
        case .normal: .normal
        case .background: .background
        }
    }
}

extension Duration {
    /// Whole milliseconds for the protocol's deadlines, at least 1: 0 would mean none.
    var deadlineMilliseconds: UInt32 {
        let (seconds, attoseconds) = components
        guard seconds >= 0 else { return 1 }
        guard seconds < 4_294_967 else { return .max }
        return UInt32(clamping: max(1, seconds * 1000 + attoseconds / 1_000_000_000_000_000))
    }
}

/// A LoRA adapter for one request.
public struct Adapter: Sendable, Hashable {
    /// As it was imported.
    public var name: String
    /// Times its trained effect: 0 for none, negative for the opposite, from -100 to 100.
    public var strength: Float

    public init(_ name: String, strength: Float = 1) { (self.name, self.strength) = (name, strength) }

    var message: EbbAdapter {
        var out = EbbAdapter()
        (out.name, out.strength) = (name, strength)
        return out
    }
}

/// How tokens are chosen and when; nil fields have the daemon's defaults.
public struct GenerationOptions: Sendable, Hashable {
    public var maxTokens: Int?
    public var temperature: Float?
    public var topK: Int?
    public var topP: Float?
    public var minP: Float?
    public var repetitionPenalty: Float?
    public var seed: UInt64?
    /// Texts that end the generation; they are not part of the answer.
    public var stop: [String] = []
    public var priority = RequestPriority.normal
    /// From the request's arrival: within this time it is answered, or fails; nil for any time.
    public var deadline: Duration?
    /// All steps in one arithmetic, so that equal requests give equal texts whatever the governor does meanwhile. A request
    /// with a seed is reproducible without this.
    public var isReproducible = false
    /// The kept conversation may be continued by requests of other users too; else it is the own user's alone.
    public var sharesPrefix = false
    /// Thinking and calls of tools come as events of their own, where the model marks them, without their marks. Otherwise all
    /// text is the answer.
    public var separatesChannels = false
    /// Adapters that are applied beside the model's weights, at most 8. Their effects add up.
    public var adapters: [Adapter] = []

    public init() {}

    /// The most probable token at every place.
    public static var greedy: GenerationOptions {
        var options = GenerationOptions()
        options.temperature = 0
        return options
    }

    var sampling: EbbSampling {
        var sampling = EbbSampling()
        if let temperature { sampling.temperature = temperature }
        if let topK { sampling.topK = UInt32(clamping: topK) }
        if let topP { sampling.topP = topP }
        if let minP { sampling.minP = minP }
        if let repetitionPenalty { sampling.repetitionPenalty = repetitionPenalty }
        if let seed { sampling.seed = seed }
        return sampling
    }
}

/// How a generation went.
public struct GenerationSummary: Sendable, Hashable {
    public enum Reason: Sendable {
        /// The model ended, or a stop text came.
        case stop
        /// The most tokens, or the context's length.
        case length
    }
    public let reason: Reason
    public let promptTokens: Int
    public let generatedTokens: Int
    /// From the request to the first token, and from there to the last.
    public let prefill: Duration
    public let decode: Duration
    /// Times that layers changed their mode meanwhile.
    public let modeChanges: Int
    /// Prompt tokens that the daemon had kept from an earlier request.
    public let reusedTokens: Int

    init(_ finished: EbbFinished) {
        reason = finished.reason == .length ? .length : .stop
        promptTokens = Int(finished.promptTokens)
        generatedTokens = Int(finished.generatedTokens)
        prefill = .microseconds(Int64(clamping: finished.prefillUs))
        decode = .microseconds(Int64(clamping: finished.decodeUs))
        modeChanges = Int(finished.modeChanges)
        reusedTokens = Int(finished.reusedTokens)
    }

    /// Tokens a second; 0 where nothing was measured.
    public var prefillRate: Double { Self.rate(promptTokens - reusedTokens, prefill) }
    public var decodeRate: Double { Self.rate(generatedTokens - 1, decode) }

    private static func rate(_ tokens: Int, _ time: Duration) -> Double {
        let seconds = Double(time.components.seconds) + Double(time.components.attoseconds) * 1e-18
        return tokens > 0 && seconds > 0 ? Double(tokens) / seconds : 0
    }
}

/// A call of a tool that a model wrote.
public struct ToolCall: Sendable, Hashable {
    /// Among the calls of the answer, from 0.
    public let index: Int
    /// What the model calls it, or empty.
    public let id: String
    public let name: String
    /// A JSON object.
    public let argumentsJSON: String

    init(_ call: EbbToolCall) {
        (index, id, name, argumentsJSON) = (Int(call.index), call.id, call.name, call.argumentsJson)
    }
}

/// What a generation yields: pieces of text, and last its summary.
public enum GenerationEvent: Sendable {
    /// A piece of the answer.
    case text(String)
    /// A piece of what the model thinks before it answers.
    case thinking(String)
    /// A piece of a call as the model writes it, and the call where it is complete with it. One that is never complete was
    /// cut off, or is wrong.
    case call(text: String, ToolCall?)
    case finished(GenerationSummary)
}

extension GenerationEvent {
    init(_ delta: EbbDelta) {
        switch delta.channel {
        case .thinking: self = .thinking(delta.text)
        case .toolCall: self = .call(text: delta.text, delta.hasCall ? ToolCall(delta.call) : nil)
        case .answer, .UNRECOGNIZED: self = .text(delta.text)
        }
    }
}

/// A running generation: an asynchronous sequence of events. Leaving the loop early cancels it.
public struct Generation: AsyncSequence, Sendable {
    public typealias Element = GenerationEvent
    let answers: Answers

    public struct AsyncIterator: AsyncIteratorProtocol {
        let base: Answers.AsyncIterator

        public mutating func next() async throws -> GenerationEvent? {
            guard let answer = try await base.next() else { return nil }
            switch answer {
            case .delta(let delta): return GenerationEvent(delta)
            case .finished(let finished): return .finished(GenerationSummary(finished))
            case .failure(let failure): throw ClientError(failure)
            default: throw ClientError(.protocolViolation, "ebbd sent an answer that belongs to another request")
            }
        }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: answers.makeAsyncIterator()) }

    /// Waits for the whole answer, without thinking and calls.
    public func text() async throws -> String {
        var text = ""
        for try await event in self {
            if case .text(let piece) = event { text += piece }
        }
        return text
    }
}

/// Changes of level, mode and residency, as they happen: an asynchronous sequence without end. Leaving the loop ends the
/// subscription.
public struct Events: AsyncSequence, Sendable {
    public typealias Element = EbbEvent
    let answers: Answers

    public struct AsyncIterator: AsyncIteratorProtocol {
        let base: Answers.AsyncIterator

        public mutating func next() async throws -> EbbEvent? {
            guard let answer = try await base.next() else { return nil }
            switch answer {
            case .event(let event): return event
            case .failure(let failure): throw ClientError(failure)
            default: throw ClientError(.protocolViolation, "ebbd sent an answer that belongs to another request")
            }
        }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: answers.makeAsyncIterator()) }
}
