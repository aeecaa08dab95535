import EbbProtocol
import Engine
import Governor
import Text

/// Answers requests. One for all connections.
struct RequestHandler: Sendable {
    let registry: ModelRegistry
    let thread: EngineThread
    let access: AccessControl
    let operatorSource: OperatorSource
    let wakeMonitor: @Sendable () -> Void
    let pressure: @Sendable () -> PressureView
    let events: EventHub
    let statusReport: @Sendable () async throws -> EbbStatus
    let isDraining: @Sendable () -> Bool

    typealias Reply = @Sendable (EbbEnvelope.OneOf_Body) async throws -> Void

    /// Answers one request with all its messages.
    /// - Throws: ``ServiceError`` and whatever else went wrong: the caller answers with a Failure.
    func handle(_ body: EbbEnvelope.OneOf_Body, peer: Peer, reply: Reply, started: (any Cancellable) -> Void)
        async throws
    {
        switch body {
        case .ping(let ping):
            var pong = EbbPong()
            pong.payload = ping.payload
            try await reply(.pong(pong))
        case .generate(let request): try await generate(request, reply, started)
        case .embed(let request): try await embed(request, reply, started)
        case .tokenize(let request):
            let model = try await registry.require(request.model)
            var tokens = EbbTokens()
            tokens.ids = model.tokenizer.encode(
                request.text, addSpecial: request.addSpecial, parseSpecial: request.parseSpecial)
            try await reply(.tokens(tokens))
        case .detokenize(let request):
            var text = EbbText()
            text.text = try await registry.require(request.model).tokenizer.decode(request.ids)
            try await reply(.text(text))
        case .listModels:
            var models = EbbModels()
            models.models = try await registry.list()
            try await reply(.models(models))
        case .getStatus: try await reply(.status(try await statusReport()))
        case .load(let request):
            try demandControl(peer, "load a model")
            try refuseWhileDraining()
            _ = try await registry.require(request.model)
            var status = EbbStatus()
            let model = try await thread.perform { core in core.model(request.model).map { ($0.status, $0.regions) } }
            status.models = [model].compactMap { $0 }.map { status, regions in
                var status = status
                regions.measure(into: &status)
                return status
            }
            try await reply(.status(status))
        case .unload(let request):
            try demandControl(peer, "unload a model")
            try await registry.unload(request.model)
            try await reply(.done(EbbDone()))
        case .setMode(let request):
            try demandControl(peer, "set a model's mode")
            guard let wish = ModelState.Wish(request.mode) else { throw ServiceError(.badRequest, "an unknown mode") }
            _ = try await registry.require(request.model)
            try await thread.perform { try $0.setWish(wish, of: request.model) }
            try await reply(.done(EbbDone()))
        case .setPreference(let request):
            try demandControl(peer, "set a model's preference")
            try await setPreference(request)
            try await reply(.done(EbbDone()))
        case .setPressure(let request):
            try demandControl(peer, "set the level of pressure")
            try setPressure(request)
            try await reply(.done(EbbDone()))
        case .subscribe: try await subscribe(reply, started)
        case .hello, .cancel, .welcome, .pong, .failure, .delta, .finished, .tokens, .text, .models, .done, .status,
            .embeddings, .event:
            throw ServiceError(.badRequest, "this message is no request")
        }
    }

    private func demandControl(_ peer: Peer, _ what: String) throws {
        guard access.mayControl(peer) else {
            throw ServiceError(
                .permissionDenied, "uid \(peer.uid) may not \(what): root, the daemon's user and the admin group may")
        }
    }

    private func setPreference(_ request: EbbSetPreference) async throws {
        let preference = request.hasPreference ? ModelState.Preference(request.preference) : nil
        guard preference != nil || !request.hasPreference else {
            throw ServiceError(.badRequest, "an unknown preference")
        }
        let priority = request.hasPriority ? Int(request.priority) : nil
        try await registry.prefer(request.model) { choice in
            if let preference { choice.preference = preference }
            if let priority { choice.priority = priority }
        }
    }

    private func setPressure(_ request: EbbSetPressure) throws {
        guard let level = PressureLevel(rawValue: request.level.rawValue) else {
            throw ServiceError(.badRequest, "an unknown level")
        }
        guard request.seconds <= 86_400 else {
            throw ServiceError(.badRequest, "\(request.seconds) s: a level can be said for a day at most")
        }
        operatorSource.say(level, seconds: Double(request.seconds))
        wakeMonitor()
    }

    private func subscribe(_ reply: Reply, _ started: (any Cancellable) -> Void) async throws {
        let subscription = events.subscribe()
        defer { subscription.cancel() }
        started(subscription)
        try await reply(.event(EbbEvent(present: pressure())))
        for await event in subscription.events { try await reply(.event(event)) }
        throw ServiceError.cancelled
    }

    private func refuseWhileDraining() throws {
        if isDraining() { throw ServiceError.shuttingDown }
    }

    private func generate(_ request: EbbGenerate, _ reply: Reply, _ started: (any Cancellable) -> Void) async throws {
        try refuseWhileDraining()
        let model = try await registry.require(request.model)
        try model.demand(encoder: false)
        let wanted = try generationRequest(request, model)
        let handle = GenerationHandle()
        started(handle)
        defer { handle.cancel() }
        try await thread.perform { core in
            guard let hosted = core.model(request.model) as? HostedDecoder else {
                throw ServiceError(.modelUnusable, "\(request.model) was unloaded", retryAfter: 100)
            }
            let need = hosted.kvBytes(of: wanted)
            let verdict = core.residency.admission(core.models).verdict(
                "a context of \(wanted.prompt.count) tokens and its answer", anonymous: need)
            if case .refused(let why) = verdict { throw ServiceError(.outOfMemory, why, retryAfter: 1000) }
            core.residency.wake(hosted, "a request")
            hosted.add(wanted, handle)
        }
        for await event in handle.events {
            switch event {
            case .delta(let text, let tokens):
                var delta = EbbDelta()
                delta.text = text
                delta.tokens = UInt32(clamping: tokens)
                try await reply(.delta(delta))
            case .finished(let summary): try await reply(.finished(EbbFinished(summary)))
            case .failed(let error): throw error
            }
            handle.taken()
        }
    }

    /// Texts of an embed request: 256 embeddings of 4,000 values fit a frame.
    private static let textLimit = 256

    private func embed(_ request: EbbEmbed, _ reply: Reply, _ started: (any Cancellable) -> Void) async throws {
        try refuseWhileDraining()
        let model = try await registry.require(request.model)
        try model.demand(encoder: true)
        guard (1...Self.textLimit).contains(request.texts.count) else {
            throw ServiceError(
                .badRequest, "\(request.texts.count) texts in a request: 1 to \(Self.textLimit) are possible")
        }
        let wanted = EmbeddingRequest(
            texts: request.texts.map { EncoderModel.tokens($0, model.tokenizer, limit: model.contextLimit) })
        started(wanted)
        defer { wanted.cancel() }
        let found = try await wanted.wait { wanted in
            let accepted = thread.post { core in
                guard let hosted = core.model(request.model) as? HostedEncoder else {
                    let error = ServiceError(.modelUnusable, "\(request.model) was unloaded", retryAfter: 100)
                    return wanted.finish(.failure(error))
                }
                core.residency.wake(hosted, "a request")
                hosted.add(wanted)
            }
            if !accepted { wanted.finish(.failure(ServiceError.shuttingDown)) }
        }
        var answer = EbbEmbeddings()
        answer.vectors = found.map { values in
            var vector = EbbEmbeddings.Vector()
            vector.values = values
            return vector
        }
        try await reply(.embeddings(answer))
    }

    private func generationRequest(_ request: EbbGenerate, _ model: LoadedModel) throws -> GenerationRequest {
        let prompt = try promptText(request, model)
        let tokens = model.tokenizer.encode(prompt, addSpecial: true, parseSpecial: true)
        guard !tokens.isEmpty else { throw ServiceError(.badRequest, "the prompt is empty") }
        guard tokens.count < model.contextLimit else {
            throw ServiceError(
                .contextFull,
                "the prompt has \(tokens.count) tokens, the context of \(model.name) \(model.contextLimit)")
        }
        guard request.stop.count <= 16, request.stop.allSatisfy({ $0.utf8.count <= 256 }) else {
            throw ServiceError(.badRequest, "at most 16 stop texts of 256 bytes are possible")
        }
        let sampling = SamplingParameters(request.sampling)
        do { try sampling.validate() } catch { throw ServiceError(.badRequest, "\(error)") }
        return GenerationRequest(
            prompt: tokens, sampling: sampling, maxTokens: request.maxTokens > 0 ? Int(request.maxTokens) : nil,
            stop: request.stop)
    }

    private func promptText(_ request: EbbGenerate, _ model: LoadedModel) throws -> String {
        switch request.input {
        case .prompt(let text)?: return text
        case .chat(let chat)?:
            guard let template = model.template else {
                throw ServiceError(
                    .badRequest,
                    "\(model.name) is a base model without a chat template: send a prompt (ebbctl run --raw)")
            }
            let tools = chat.toolsJson.isEmpty ? JSONValue.array([]) : try JSONValue(parsing: chat.toolsJson)
            guard case .array(let list) = tools else { throw ServiceError(.badRequest, "tools_json is no JSON array") }
            return try template.render(
                messages: try chat.messages.map(Self.message), tools: list, addGenerationPrompt: true)
        case nil: throw ServiceError(.badRequest, "the request has neither a prompt nor a chat")
        }
    }

    private static func message(_ message: EbbMessage) throws -> JSONValue {
        let more = message.moreJson.isEmpty ? JSONValue.object([:]) : try JSONValue(parsing: message.moreJson)
        guard case .object(let members) = more else { throw ServiceError(.badRequest, "more_json is no JSON object") }
        return .object(
            members.merging(["role": .string(message.role), "content": .string(message.content)]) { old, _ in old })
    }
}

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
