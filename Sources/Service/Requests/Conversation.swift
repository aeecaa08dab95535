import EbbProtocol
import Text

/// The messages of a chat, and the tools it may call, as a template reads them.
struct Conversation {
    private let messages: [JSONValue]
    private let tools: [JSONValue]

    /// - Throws: ``ServiceError`` or `TextError` for JSON that is none, or none of the right kind.
    init(_ chat: EbbChat) throws {
        messages = try chat.messages.map(Self.message)
        let tools = chat.toolsJson.isEmpty ? JSONValue.array([]) : try JSONValue(parsing: chat.toolsJson)
        guard case .array(let list) = tools else { throw ServiceError(.badRequest, "tools_json is no JSON array") }
        self.tools = list
    }

    /// Equal messages make equal prompts: role, content, then the others in their order.
    private static func message(_ message: EbbMessage) throws -> JSONValue {
        let more = message.moreJson.isEmpty ? JSONValue.object([:]) : try JSONValue(parsing: message.moreJson)
        guard case .object(let members) = more else { throw ServiceError(.badRequest, "more_json is no JSON object") }
        return ChatTemplate.message(role: message.role, content: message.content, more: members)
    }

    /// The prompt, by the model's own template: what users write in it cannot become control tokens, unless `trustsText` says
    /// that they may.
    /// - Throws: ``ServiceError`` where the model has no usable one, `TextError` where the template refuses the messages.
    func prompt(_ model: LoadedModel, seconds: Double, trustsText: Bool = false) throws -> MarkedText {
        if let problem = model.templateProblem {
            throw ServiceError(
                .badRequest,
                "the chat template of \(model.name) cannot be used (\(problem)): send a prompt (ebbctl run --raw)")
        }
        guard let template = model.template else {
            throw ServiceError(
                .badRequest, "\(model.name) is a base model without a chat template: send a prompt (ebbctl run --raw)")
        }
        let prompt = try template.prompt(
            messages: messages, tools: tools, addGenerationPrompt: true, timeLimit: .seconds(seconds))
        return trustsText ? MarkedText(trusting: prompt.text) : prompt
    }

    /// Bytes that a chat takes at most while it is rendered: its values, what the template makes of them, the prompt.
    /// - Parameter bytes: what ``RequestBounds`` counts it as.
    static func workingBytes(_ chat: EbbChat, bytes: Int) -> Int {
        // Two bytes of JSON can be a value of its own.
        let json = chat.messages.reduce(chat.toolsJson.utf8.count) { $0 + $1.moreJson.utf8.count }
        return bytes * 12 + json * 64 + (64 << 10)
    }
}
