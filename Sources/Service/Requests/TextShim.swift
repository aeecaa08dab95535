import OrderedCollections
import Text

// Until Text has these itself.

extension Tokenizer {
    func encode(
        _ text: String, addSpecial: Bool, parseSpecial: Bool, isCancelled: () -> Bool
    ) throws(CancellationError) -> [Int32] {
        if isCancelled() { throw CancellationError() }
        return encode(text, addSpecial: addSpecial, parseSpecial: parseSpecial)
    }

    static func workingBytes(forUTF8Count count: Int) -> Int { count * 32 + 4096 }

    func byteCount(of ids: [Int32]) -> Int { ids.reduce(0) { $0 + bytes(of: $1).count } }
}

extension ChatTemplate {
    static func message(role: String, content: String, more: OrderedDictionary<String, JSONValue>) -> JSONValue {
        var members: OrderedDictionary<String, JSONValue> = ["role": .string(role), "content": .string(content)]
        for (key, value) in more where members[key] == nil { members[key] = value }
        return .object(members)
    }

    func render(messages: [JSONValue], tools: [JSONValue], addGenerationPrompt: Bool, timeLimit: Double) throws
        -> String
    {
        try render(messages: messages, tools: tools, addGenerationPrompt: addGenerationPrompt)
    }
}
