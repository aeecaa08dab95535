import EbbProtocol
import Engine
import Governor
import Text

/// Generations: a prompt or a conversation becomes tokens, and tokens a stream of text.
extension RequestHandler {
    func generate(
        _ request: EbbGenerate, _ client: Client, _ reply: Reply, _ started: (any Cancellable) -> Void
    ) async throws {
        try refuseWhileDraining()
        let model = try await registry.require(request.model)
        try model.demand(encoder: false)
        let wanted = try generationRequest(request, client, model)
        let handle = GenerationHandle()
        started(handle)
        defer { handle.cancel() }
        let name = request.model
        try await thread.perform { try $0.submit(wanted, to: name, handle) }
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

    private func generationRequest(
        _ request: EbbGenerate, _ client: Client, _ model: LoadedModel
    ) throws -> GenerationRequest {
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
        var wanted = GenerationRequest(
            prompt: tokens, sampling: sampling, maxTokens: request.maxTokens > 0 ? Int(request.maxTokens) : nil,
            stop: request.stop,
            origin: try client.origin(request.priority, deadlineMilliseconds: request.deadlineMs))
        wanted.isReproducible = request.reproducible || request.sampling.hasSeed
        wanted.sharesPrefix = request.sharedPrefix
        return wanted
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
