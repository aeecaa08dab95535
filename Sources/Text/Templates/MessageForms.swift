import OrderedCollections

/// Forms of messages that a template takes. Programs send content as a text, a list of parts or null, and arguments of calls
/// as an object or as its text (OpenAI's API); most templates are written for one of these, and fail with another, write
/// nothing, or Python's spelling of it.
public struct MessageForms: Sendable, Hashable {
    public let takesText: Bool
    public let takesParts: Bool
    public let takesNull: Bool
    /// Whether a call's arguments are an object, or else a text.
    public let takesObjects: Bool

    /// Found by rendering small conversations in each form.
    public init(_ template: ChatTemplate) {
        let probe = Probe(template)
        takesParts = probe.shows(.array([Self.part(Probe.text)]))
        takesText = !takesParts || probe.shows(.string(Probe.text))
        let object = probe.call(content: .string(""), arguments: .object(Probe.arguments))
        let text = probe.call(content: .string(""), arguments: .string(JSONValue.object(Probe.arguments).text))
        takesObjects = object || !text
        let arguments = JSONValue.object(Probe.arguments)
        takesNull = probe.call(content: .null, arguments: takesObjects ? arguments : .string(arguments.text))
    }

    private struct Probe {
        static let text = "ebbPROBE"
        static let arguments: OrderedDictionary<String, JSONValue> = ["ebbKEY": .string("ebbVALUE")]
        private let template: ChatTemplate

        init(_ template: ChatTemplate) { self.template = template }

        /// Whether a user's content stands in the prompt. A list that was written out has its keys in quotes.
        func shows(_ content: JSONValue) -> Bool {
            let message = ChatTemplate.message(role: "user", content: content)
            guard let text = template.probed(messages: [message], addGenerationPrompt: true), text.contains(Self.text)
            else { return false }
            return !["'type'", "\"type\"", "\\\"type"].contains { text.contains($0) }
        }

        /// Whether a call's arguments stand in the prompt, neither as Python writes an object nor as JSON within a text.
        func call(content: JSONValue, arguments: JSONValue) -> Bool {
            let function: JSONValue = .object(["name": .string("ebbTOOL"), "arguments": arguments])
            let call: JSONValue = .object([
                "id": .string("probe0000"), "type": .string("function"), "function": function,
            ])
            let messages = [
                ChatTemplate.message(role: "user", content: "q"),
                ChatTemplate.message(role: "assistant", content: content, more: ["tool_calls": .array([call])]),
            ]
            guard let text = template.probed(messages: messages, addGenerationPrompt: false) else { return false }
            return text.contains("ebbKEY") && text.contains("ebbVALUE") && !text.contains("{'ebbKEY'")
                && !text.contains("\\\"ebbKEY") && !text.contains("{{\"ebbKEY")
        }
    }

    /// A message in the forms that the template takes.
    public func fitting(_ message: JSONValue) -> JSONValue {
        guard case .object(var members) = message else { return message }
        if let content = members["content"] { members["content"] = fitting(content: content) }
        if case .array(let calls)? = members["tool_calls"] { members["tool_calls"] = .array(calls.map(fitting(call:))) }
        return .object(members)
    }

    /// Parts of text become one text, with line feeds between them, or a text becomes a part; null becomes an empty text.
    /// Parts that are no text stay.
    private func fitting(content: JSONValue) -> JSONValue {
        switch content {
        case .string(let text) where !takesText: return .array([Self.part(text)])
        case .array(let parts) where !takesParts:
            let texts = parts.map(Self.text)
            return texts.contains(nil) ? content : .string(texts.compactMap { $0 }.joined(separator: "\n"))
        case .null where !takesNull: return .string("")
        default: return content
        }
    }

    private func fitting(call: JSONValue) -> JSONValue {
        guard case .object(var members) = call else { return call }
        if let function = members["function"] { members["function"] = fitting(call: function) }
        switch members["arguments"] {
        case .string(let text)? where takesObjects:
            if case .object(let object)? = try? JSONValue(parsing: text) { members["arguments"] = .object(object) }
        case .object(let object)? where !takesObjects:
            members["arguments"] = .string(JSONValue.object(object).text)
        default: break
        }
        return .object(members)
    }

    /// The text of a part; nil where it is none.
    public static func text(_ part: JSONValue) -> String? {
        if case .string(let text) = part { return text }
        return part["type"]?.string == "text" ? part["text"]?.string : nil
    }

    private static func part(_ text: String) -> JSONValue { .object(["type": .string("text"), "text": .string(text)]) }
}
