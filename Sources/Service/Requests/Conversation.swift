import EbbProtocol
import OrderedCollections
import Text

/// The messages of a chat, the tools it may call, and what else a template reads.
struct Conversation {
    private let messages: [JSONValue]
    let tools: [JSONValue]
    private let variables: OrderedDictionary<String, JSONValue>
    private let trustsText: Bool

    /// - Parameter settings: variables that count where the chat says nothing else.
    /// - Throws: ``ServiceError`` or `TextError` for JSON that is none, or none of the right kind.
    init(_ chat: EbbChat, settings: OrderedDictionary<String, JSONValue>) throws {
        messages = try chat.messages.map(Self.message)
        tools = try Self.list(chat.toolsJson, "tools_json")
        let own = try Self.object(chat.variablesJson, "variables_json")
        for name in own.keys where ChatTemplate.ownVariables.contains(name) {
            throw ServiceError(
                .badRequest, "variables_json cannot say \"\(name)\": the request has its own place for it")
        }
        variables = settings.merging(own) { $1 }
        trustsText = chat.trustsText
    }

    /// Equal messages make equal prompts: role, content, then the others in their order.
    private static func message(_ message: EbbMessage) throws -> JSONValue {
        var content = JSONValue.string(message.content)
        if !message.partsJson.isEmpty {
            guard message.content.isEmpty else {
                throw ServiceError(.badRequest, "a message has either content or parts_json")
            }
            content = .array(try list(message.partsJson, "parts_json"))
        }
        return ChatTemplate.message(
            role: message.role, content: content, more: try object(message.moreJson, "more_json"))
    }

    private static func list(_ json: String, _ field: String) throws -> [JSONValue] {
        if json.isEmpty { return [] }
        guard case .array(let list) = try JSONValue(parsing: json) else {
            throw ServiceError(.badRequest, "\(field) is no JSON array")
        }
        return list
    }

    private static func object(_ json: String, _ field: String) throws -> OrderedDictionary<String, JSONValue> {
        if json.isEmpty { return [:] }
        guard case .object(let members) = try JSONValue(parsing: json) else {
            throw ServiceError(.badRequest, "\(field) is no JSON object")
        }
        return members
    }

    /// The prompt, by the model's own template: what users write in it cannot become control tokens, unless the chat says
    /// that they may.
    /// - Throws: ``ServiceError`` where the model has no usable one, `TextError` where the template refuses the messages.
    func prompt(
        _ model: String, _ support: ChatSupport, addGenerationPrompt: Bool = true, seconds: Double
    ) throws -> MarkedText {
        let template = try support.demandTemplate(of: model)
        if support.forms?.takesParts != true { try demandTexts(model) }
        let prompt = try template.prompt(
            messages: messages.map { support.forms?.fitting($0) ?? $0 }, tools: tools, variables: variables,
            addGenerationPrompt: addGenerationPrompt, timeLimit: .seconds(seconds))
        return trustsText ? MarkedText(trusting: prompt.text) : prompt
    }

    /// - Throws: ``ServiceError`` where a message has a part that no model here can read.
    func demandTexts(_ model: String) throws {
        for content in messages.compactMap({ $0["content"] }) {
            let parts: [JSONValue]
            switch content {
            case .array(let list): parts = list
            case .object: parts = [content]
            default: continue
            }
            guard let other = parts.first(where: { MessageForms.text($0) == nil }) else { continue }
            let kind = other["type"]?.string.map { "\"\($0.prefix(32))\"" } ?? "no type"
            throw ServiceError(
                .badRequest,
                "a message has a part of \(kind): \(model) reads parts {\"type\": \"text\", \"text\": …} only")
        }
    }

    /// Bytes that a chat takes at most while it is rendered: its values, what the template makes of them, the prompt.
    /// - Parameter bytes: what ``RequestBounds`` counts it as.
    static func workingBytes(_ chat: EbbChat, bytes: Int) -> Int {
        // Two bytes of JSON can be a value of its own.
        bytes * 12 + chat.jsonBytes * 64 + (64 << 10)
    }
}

extension EbbChat {
    /// Bytes of JSON in it.
    var jsonBytes: Int {
        messages.reduce(toolsJson.utf8.count + variablesJson.utf8.count) {
            $0 + $1.moreJson.utf8.count + $1.partsJson.utf8.count
        }
    }
}
