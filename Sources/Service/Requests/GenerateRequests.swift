import EbbProtocol
import Engine
import Text

/// Generations: a prompt or a conversation becomes tokens, and tokens a stream of text.
extension RequestHandler {
    func generate(_ request: EbbGenerate, _ client: Client, _ reply: Reply) async throws {
        let origin = try client.origin(request.priority, deadlineMilliseconds: request.deadlineMs)
        var sampling = SamplingParameters(request.sampling)
        // Equal requests give equal texts also where they leave the seed to us.
        if request.reproducible, sampling.seed == nil { sampling.seed = 0 }
        try sampling.validate()
        let bytes = try RequestBounds(limits).bytes(of: request)
        let model = try await registry.require(request.model, origin, peer: client.peer)
        try model.demand(encoder: false)
        let adapters = try await adapters.require(request.adapters, of: model, origin)
        let (tokens, channels) = try await prompt(request, bytes, origin, model)
        let held = try ledger.promise(
            .prompts, tokens.count * MemoryLayout<Int32>.size * 2, for: "a prompt of \(tokens.count) tokens")
        defer { withExtendedLifetime(held) {} }
        var wanted = GenerationRequest(
            prompt: tokens, sampling: sampling, maxTokens: request.maxTokens > 0 ? Int(request.maxTokens) : nil,
            stop: request.stop, origin: origin)
        wanted.isReproducible = request.reproducible || request.sampling.hasSeed
        wanted.sharesPrefix = request.sharedPrefix
        wanted.channels = channels
        wanted.adapters = adapters
        try await stream(wanted, model.name, reply)
    }

    /// The prompt's tokens, a conversation being rendered first, and what tells the channels of the answer apart.
    private func prompt(
        _ request: EbbGenerate, _ bytes: Int, _ origin: RequestOrigin, _ model: LoadedModel
    ) async throws -> ([Int32], ChannelReader?) {
        let (tokens, channels) = try await texts.run(.text(bytes: bytes), origin, cost: bytes) { job in
            if case .chat(let chat)? = request.input {
                let conversation = try conversation(chat, bytes, model.name, job)
                try conversation.demandTexts(model.name)
                let prompt = try rendered(conversation, model.name, model.text)
                let channels = format(request, model).map {
                    ChannelReader($0, prompt: prompt, tools: conversation.tools)
                }
                return (try self.tokens(prompt, model.text.tokenizer, job), channels)
            }
            try job.reserve(model.text.tokenizer.workingBytes(forUTF8Count: bytes), for: "a prompt of \(bytes) bytes")
            // Whether it offers tools only its writer knows.
            let channels = format(request, model).map {
                ChannelReader($0, prompt: MarkedText(trusting: request.prompt), offersTools: true)
            }
            let tokens = try model.text.tokenizer.encode(
                request.prompt, addSpecial: true, parseSpecial: true, isCancelled: { job.isCancelled })
            return (tokens, channels)
        }
        guard !tokens.isEmpty else { throw ServiceError(.badRequest, "the prompt is empty") }
        guard tokens.count < model.contextLimit else {
            throw ServiceError(
                .contextFull,
                "the prompt has \(tokens.count) tokens, the context of \(model.name) \(model.contextLimit)")
        }
        return (tokens, channels)
    }

    /// How the model marks channels, where the request asks for them.
    private func format(_ request: EbbGenerate, _ model: LoadedModel) -> ChannelFormat? {
        request.channels ? model.text.chat.channels : nil
    }

    /// Has the engine generate, and passes on what it says.
    private func stream(_ wanted: GenerationRequest, _ name: String, _ reply: Reply) async throws {
        let handle = GenerationHandle()
        defer { handle.cancel() }
        try await thread.perform { try $0.submit(wanted, to: name, handle) }
        for await event in handle.events {
            switch event {
            case .delta(let part, let tokens): try await reply(.delta(EbbDelta(part, tokens: tokens)))
            case .finished(let summary): return try await reply(.finished(EbbFinished(summary)))
            case .failed(let error): throw error
            }
            handle.taken()
        }
        // The stream of a task that was cancelled ends without a last word.
        throw ServiceError.cancelled
    }
}
