import EbbProtocol
import Engine
import Foundation
import Governor
import Measuring
import Text

// The service's values as the protocol's messages, and back: the one place where they meet.

extension SamplingParameters {
    /// The defaults, but for the fields that a client has set.
    init(_ sampling: EbbSampling) {
        self.init()
        if sampling.hasTemperature { temperature = sampling.temperature }
        if sampling.hasTopK { topK = Int(sampling.topK) }
        if sampling.hasTopP { topP = sampling.topP }
        if sampling.hasMinP { minP = sampling.minP }
        if sampling.hasRepetitionPenalty { repetitionPenalty = sampling.repetitionPenalty }
        if sampling.hasSeed { seed = sampling.seed }
    }
}

extension EbbAdapter {
    /// 1 unless the client says otherwise.
    var effectiveStrength: Float { hasStrength ? strength : 1 }
}

extension EbbPong {
    init(_ ping: EbbPing) {
        self.init()
        payload = ping.payload
    }
}

extension EbbTokens {
    /// - Throws: ``ServiceError`` where they are more than an answer holds.
    init(fitting ids: [Int32]) throws {
        // A negative number, which no token has, would take ten bytes.
        let bytes = ids.reduce(0) { $0 + ($1 < 0 ? 10 : ($1.bitWidth - ($1 | 1).leadingZeroBitCount + 6) / 7) }
        try ReplyBounds.demand(bytes, "\(ids.count) tokens", "send the text in pieces")
        self.init()
        self.ids = ids
    }
}

extension EbbRendered {
    /// - Throws: ``ServiceError`` where they are more than an answer holds.
    init(fitting prompt: String, _ ids: [Int32]) throws {
        let tokens = try EbbTokens(fitting: ids)
        try ReplyBounds.demand(
            prompt.utf8.count + ids.count * 5, "the prompt and its tokens",
            "render it without tokens, or fewer messages")
        self.init()
        (text, self.ids) = (prompt, tokens.ids)
    }
}

extension EbbText {
    /// - Throws: ``ServiceError`` where it is longer than an answer.
    init(fitting text: String) throws {
        try ReplyBounds.demand(text.utf8.count, "the text", "send fewer tokens at a time")
        self.init()
        self.text = text
    }
}

extension EbbEmbeddings {
    init(_ vectors: [[Float]]) {
        self.init()
        self.vectors = vectors.map { values in
            var vector = EbbEmbeddings.Vector()
            vector.values = values
            return vector
        }
    }

    /// - Throws: ``ServiceError`` where so many vectors are more than an answer holds.
    static func demandRoom(vectors: Int, values: Int) throws {
        let bytes = values * MemoryLayout<Float>.size + 16
        try ReplyBounds.demand(
            vectors * bytes, "\(vectors) embeddings", "send at most \(ReplyBounds.bytes / bytes) texts at a time")
    }
}

extension EbbModels {
    /// - Throws: ``ServiceError`` where they are more than an answer holds.
    init(fitting models: [EbbModel]) throws {
        let bytes = models.reduce(0) {
            $0 + $1.name.utf8.count + $1.architecture.utf8.count + $1.error.utf8.count + 160
                + $1.adapters.reduce(0) { $0 + $1.utf8.count + 4 }
        }
        try ReplyBounds.demand(bytes, "\(models.count) models", "keep fewer in the folder")
        self.init()
        self.models = models
    }
}

extension EbbModel {
    init(_ entry: ModelCatalog.Entry, isLoaded: Bool, choice: StateFolder.Choice) {
        self.init()
        name = entry.name
        fileBytes = UInt64(clamping: entry.identity?.byteCount ?? 0)
        if let summary = entry.value { describe(summary) }
        error = entry.problem
        loaded = isLoaded
        preference = choice.preference.protocolPreference
        priority = Int32(clamping: choice.priority)
    }

    private mutating func describe(_ summary: ModelSummary) {
        architecture = String(summary.architecture.prefix(ModelCatalog.mostCharacters))
        use =
            switch summary.use {
            case .generate: .useGenerate
            case .embed: .useEmbed
            case .rerank: .useRerank
            }
        parameters = UInt64(clamping: summary.parameters)
        contextLength = UInt32(clamping: summary.contextLength)
        bits = summary.bits.map { UInt32(clamping: $0) }
        hasChatTemplate_p = summary.hasTemplate
    }
}

extension EbbDelta {
    init(_ part: AnswerPart, tokens: Int) {
        self.init()
        text = part.text
        self.tokens = UInt32(clamping: tokens)
        channel =
            switch part.channel {
            case .answer: .answer
            case .thinking: .thinking
            case .toolCall: .toolCall
            }
        if let (number, call) = part.call { self.call = EbbToolCall(call, number: number) }
    }
}

extension EbbToolCall {
    init(_ call: ToolCall, number: Int) {
        self.init()
        index = UInt32(clamping: number)
        (id, name, argumentsJson) = (call.id, call.name, call.arguments)
    }
}

extension EbbFinished {
    init(_ summary: GenerationSummary) {
        self.init()
        reason = summary.reason == .stop ? .stop : .length
        promptTokens = UInt32(clamping: summary.promptTokens)
        generatedTokens = UInt32(clamping: summary.generatedTokens)
        prefillUs = UInt64(max(0, summary.prefillSeconds * 1e6))
        decodeUs = UInt64(max(0, summary.decodeSeconds * 1e6))
        modeChanges = UInt32(clamping: summary.modeChanges)
        reusedTokens = UInt32(clamping: summary.reusedTokens)
    }
}

extension ModelState.Wish {
    init?(_ mode: EbbMode) {
        switch mode {
        case .auto: self = .auto
        case .dequantized: self = .dequantized
        case .memoryLow: self = .memoryLow
        case .UNRECOGNIZED: return nil
        }
    }

    var protocolMode: EbbMode {
        switch self {
        case .auto: .auto
        case .dequantized: .dequantized
        case .memoryLow: .memoryLow
        }
    }
}

extension ModelState.Preference {
    init?(_ preference: EbbPreference) {
        switch preference {
        case .accuracy: self = .accuracy
        case .speed: self = .speed
        case .memory: self = .memory
        case .UNRECOGNIZED: return nil
        }
    }

    var protocolPreference: EbbPreference {
        switch self {
        case .accuracy: .accuracy
        case .speed: .speed
        case .memory: .memory
        }
    }
}

extension EbbModeCosts {
    init(_ costs: ModeCosts) {
        self.init()
        prefillRatio = Float(costs.prefillRatio)
        decodeRatio = Float(costs.decodeRatio)
        loss = Float(costs.loss)
    }
}

extension EbbEvent {
    /// A level, with the reason for it.
    init(_ view: PressureView) {
        self.init()
        kind = .level
        what = "\(view.level)"
        level = EbbLevel(rawValue: view.level.rawValue) ?? .nominal
        reason = view.reason
    }

    /// The level when someone subscribes.
    init(present view: PressureView) {
        self.init(view)
        timeMs = UInt64(Date().timeIntervalSince1970 * 1000)
    }
}

extension RequestPriority {
    init?(_ priority: EbbPriority) {
        switch priority {
        case .normal: self = .normal
        case .interactive: self = .interactive
        case .background: self = .background
        case .UNRECOGNIZED: return nil
        }
    }
}
