import EbbProtocol
import Text

/// Prompts: what a conversation is to a model, rendered by its own template and cut into tokens.
extension RequestHandler {
    /// The prompt that a generation would have. No model is loaded for that.
    func render(_ request: EbbRender, _ client: Client) async throws -> EbbRendered {
        let bytes = try RequestBounds(limits).bytes(of: request.chat)
        let model = try await registry.text(request.model, client.origin)
        return try await texts.run(.text(bytes: bytes), client.origin, cost: bytes) { job in
            let conversation = try conversation(request.chat, bytes, request.model, job)
            let prompt = try rendered(
                conversation, request.model, model, addGenerationPrompt: !request.noGenerationPrompt)
            return try EbbRendered(
                fitting: prompt.text, request.tokens ? try tokens(prompt, model.tokenizer, job) : [])
        }
    }

    /// A conversation, for which all that its rendering takes is promised.
    /// - Parameter bytes: what ``RequestBounds`` counts the chat as.
    func conversation(_ chat: EbbChat, _ bytes: Int, _ model: String, _ job: TextJob) throws -> Conversation {
        try job.reserve(Conversation.workingBytes(chat, bytes: bytes), for: "a chat of \(bytes) bytes")
        return try Conversation(chat, settings: variables.of(model))
    }

    /// A conversation as its model's template writes it.
    func rendered(
        _ conversation: Conversation, _ name: String, _ model: ModelText, addGenerationPrompt: Bool = true
    ) throws -> MarkedText {
        let prompt = try conversation.prompt(
            name, model.chat, addGenerationPrompt: addGenerationPrompt, seconds: limits.templateSeconds)
        try RequestBounds(limits).demand(prompt.text.utf8.count, "the chat, rendered by the model's template,")
        return prompt
    }

    /// A rendered conversation's tokens: a template writes what the model wants at the beginning itself.
    func tokens(_ prompt: MarkedText, _ tokenizer: Tokenizer, _ job: TextJob) throws -> [Int32] {
        try job.demandWanted()
        let count = prompt.text.utf8.count
        try job.reserve(tokenizer.workingBytes(forUTF8Count: count), for: "a prompt of \(count) bytes")
        return try tokenizer.encode(prompt, isCancelled: { job.isCancelled })
    }
}
