/// Which contents of messages a template takes: texts, lists of parts, or both. Most are written for one of them, and make
/// Python's spelling of a list, or nothing, of the other.
public struct ContentForms: Sendable, Hashable {
    public let takesText: Bool
    public let takesParts: Bool

    private static let probe = "ebbPROBE"

    /// Found by rendering a message in both forms. A template that takes neither alone counts as taking texts.
    public init(_ template: ChatTemplate) {
        func shows(_ content: JSONValue) -> Bool {
            let message = ChatTemplate.message(role: "user", content: content)
            guard let text = template.probed(messages: [message], addGenerationPrompt: true), text.contains(Self.probe)
            else { return false }
            // A list that was written out has its keys in quotes.
            return !["'type'", "\"type\"", "\\\"type"].contains { text.contains($0) }
        }
        takesParts = shows(.array([Self.part(Self.probe)]))
        takesText = !takesParts || shows(.string(Self.probe))
    }

    /// A message's content in a form that the template takes: parts of text become one text, with line feeds between them,
    /// or a text becomes a part. Parts that are no text stay.
    public func fitting(_ content: JSONValue) -> JSONValue {
        switch content {
        case .string(let text) where !takesText: return .array([Self.part(text)])
        case .array(let parts) where !takesParts:
            let texts = parts.map(Self.text)
            return texts.contains(nil) ? content : .string(texts.compactMap { $0 }.joined(separator: "\n"))
        default: return content
        }
    }

    /// The text of a part; nil where it is none.
    public static func text(_ part: JSONValue) -> String? {
        if case .string(let text) = part { return text }
        return part["type"]?.string == "text" ? part["text"]?.string : nil
    }

    private static func part(_ text: String) -> JSONValue { .object(["type": .string("text"), "text": .string(text)]) }
}
