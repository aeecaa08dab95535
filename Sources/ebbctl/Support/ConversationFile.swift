import EbbClient
import OrderedCollections
import Text

/// Conversations and descriptions of tools, as JSON files that people write, in the form that OpenAI's API has.
enum ConversationFile {
    /// Bytes of a file at most: what one request holds.
    private static let limit = 4 << 20

    /// A list of messages: `[{"role": "user", "content": "Hi"}]`, with content a text, a list of parts or null, and further
    /// members (`tool_calls`).
    /// - Parameter path: `-` is standard input.
    static func messages(_ path: String) throws -> [ChatMessage] {
        guard case .array(let list) = try value(path) else {
            throw wrong(path, "no list of messages: [{\"role\": \"user\", \"content\": \"Hi\"}] is expected")
        }
        return try list.enumerated().map { index, message in
            guard case .object(var members) = message, let role = members.removeValue(forKey: "role")?.string else {
                throw wrong(path, "message \(index + 1) is no object with a \"role\" that is a text")
            }
            return try self.message(role, members, path, index)
        }
    }

    private static func message(
        _ role: String, _ members: OrderedDictionary<String, JSONValue>, _ path: String, _ index: Int
    ) throws -> ChatMessage {
        var rest = members
        switch rest.removeValue(forKey: "content") {
        case .string(let text)?: return ChatMessage(role: role, content: text, moreJSON: more(rest))
        case .array(let parts)?:
            return ChatMessage(role: role, partsJSON: JSONValue.array(parts).text, moreJSON: more(rest))
        case .null?, nil:
            rest["content"] = .null
            return ChatMessage(role: role, content: "", moreJSON: more(rest))
        default: throw wrong(path, "message \(index + 1) has a content that is no text, list of parts or null")
        }
    }

    private static func more(_ members: OrderedDictionary<String, JSONValue>) -> String {
        members.isEmpty ? "" : JSONValue.object(members).text
    }

    /// A list of tools, as one text.
    static func tools(_ path: String) throws -> String {
        let tools = try value(path)
        guard case .array(let list) = tools, list.allSatisfy({ if case .object = $0 { true } else { false } }) else {
            throw wrong(path, "no list of tools: [{\"type\": \"function\", …}] is expected")
        }
        return tools.text
    }

    private static func value(_ path: String) throws -> JSONValue {
        let text = try UserFile.text(path, limit: limit)
        do { return try JSONValue(parsing: text) } catch { throw wrong(path, "\(error)") }
    }

    private static func wrong(_ path: String, _ why: String) -> CommandError {
        CommandError(.badInput, "\(UserFile.name(path)): \(why)")
    }
}

extension Answer {
    /// As a template reads it in the next turn. What was thought is not part of it.
    var message: ChatMessage {
        let text = text + openCall
        guard !calls.isEmpty else { return ChatMessage(role: "assistant", content: text) }
        let list = calls.map { call in
            let function: JSONValue = .object([
                "name": .string(call.name),
                "arguments": (try? JSONValue(parsing: call.argumentsJSON)) ?? .string(call.argumentsJSON),
            ])
            return JSONValue.object(["type": .string("function"), "id": .string(call.id), "function": function])
        }
        return ChatMessage(
            role: "assistant", content: text, moreJSON: JSONValue.object(["tool_calls": .array(list)]).text)
    }
}
