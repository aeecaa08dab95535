/// Reads the calls in what a model wrote between marks.
struct CallReading: Sendable {
    let grammar: CallGrammar
    let tools: OfferedTools

    /// The call whose JSON object became complete.
    /// - Parameters:
    ///   - before: what stands before the object.
    ///   - header: the name that a header gave.
    func call(_ object: [UInt8], before: [UInt8], header: String?) -> ToolCall? {
        let text = String(decoding: object, as: UTF8.self)
        switch grammar {
        case .object: return Self.object(text)
        case .keyed:
            guard let members = JSONText.members(text), members.count == 1, let (name, written) = members.first,
                !name.isEmpty, let arguments = Self.arguments(written)
            else { return nil }
            return ToolCall(name: name, arguments: arguments)
        case .named(let marks):
            // Behind a header that gave the name, the object is all.
            guard JSONText.isObject(text), header == nil || before.allSatisfy(\.isSpace) else { return nil }
            return Self.named(marks, String(decoding: before, as: UTF8.self), header, text)
        case .tagged, .nested, .python, .gemma: return nil
        }
    }

    /// The calls of a text that its mark made complete.
    func calls(_ text: [UInt8]) -> [ToolCall] {
        switch grammar {
        case .object, .keyed, .named: []
        case .tagged(let marks): TagReading(marks: marks, tools: tools).call(text).map { [$0] } ?? []
        case .nested(let mark): NestedReading(mark: mark, tools: tools).call(text).map { [$0] } ?? []
        case .python: Self.python(text) ?? []
        case .gemma: Self.gemma(text) ?? []
        }
    }

    /// The calls of a text that has no end of its own: Llama 3 calls its built-in tools as `name.call(query="…")`.
    func callsAtEnd(_ text: [UInt8]) -> [ToolCall] {
        guard let calls = Self.python(text), calls.allSatisfy({ $0.name.hasSuffix(".call") && $0.name.utf8.count > 5 })
        else { return [] }
        return calls.map { ToolCall(name: String($0.name.dropLast(5)), arguments: $0.arguments) }
    }

    /// Names have no white space and nothing that begins or ends a mark.
    static func isName(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= 256
            && !name.unicodeScalars.contains {
                $0.properties.isWhitespace || "<>\"'{}()[]`".unicodeScalars.contains($0)
            }
    }

    /// A tool's name as the request has it: some models write it as `functions.NAME`.
    static func withoutNamespace(_ name: String) -> String {
        let namespace = "functions."
        return name.hasPrefix(namespace) ? String(name.dropFirst(namespace.count)) : name
    }

    private static func object(_ text: String, isNested: Bool = false) -> ToolCall? {
        guard let members = JSONText.members(text) else { return nil }
        func string(_ keys: [String]) -> String? {
            keys.lazy.compactMap { members[$0] }.compactMap { (try? JSONValue(parsing: $0))?.string }.first
        }
        // {"type": "function", "function": {"name": …}}
        if !isNested, members["name"] == nil, let inner = members["function"], JSONText.isObject(inner) {
            return object(inner, isNested: true)
        }
        guard let name = string(["name", "tool_name", "function"]), !name.isEmpty else { return nil }
        let written = members["arguments"] ?? members["parameters"] ?? "{}"
        guard let arguments = arguments(written) else { return nil }
        let id = members["id"] ?? members["tool_call_id"] ?? ""
        return ToolCall(
            name: name, arguments: arguments, id: (try? JSONValue(parsing: id))?.string ?? id.trimmingSpace())
    }

    /// An object, or a string that holds one, as OpenAI's API has it.
    private static func arguments(_ written: String) -> String? {
        switch try? JSONValue(parsing: written) {
        case .object?: written.trimmingSpace()
        case .string(let text)?: JSONText.isObject(text) ? text : nil
        case .null?: "{}"
        default: nil
        }
    }

    private static func named(_ marks: NameMarks, _ before: String, _ header: String?, _ arguments: String) -> ToolCall?
    {
        let bytes = Array(before.utf8)
        func between(_ open: String, _ close: String) -> String {
            let start = open.isEmpty ? 0 : TextSearch.last(open, in: bytes)?.upperBound ?? 0
            let end = TextSearch(close).first(in: bytes, from: start)?.lowerBound ?? bytes.count
            return String(decoding: bytes[start..<end], as: UTF8.self).trimmingSpace()
        }
        var name = header ?? between(marks.nameOpen, marks.nameClose)
        var id = marks.idOpen.isEmpty || !before.contains(marks.idOpen) ? "" : between(marks.idOpen, marks.idClose)
        if marks.isNumbered {
            id = name
            if let colon = name.lastIndex(of: ":") { name = String(name[..<colon]) }
        }
        name = withoutNamespace(name)
        return isName(name) ? ToolCall(name: name, arguments: arguments, id: id) : nil
    }

    /// `[f(a=1), g()]`, or one without brackets.
    private static func python(_ text: [UInt8]) -> [ToolCall]? {
        var reader = LiteralReader(text, .python)
        let isList = reader.take("[")
        var calls: [ToolCall] = []
        while !(isList ? reader.take("]") : reader.isAtEnd()) {
            guard calls.isEmpty || reader.take(",") else { return nil }
            let name = reader.word()
            guard isName(name), reader.take("("), let arguments = reader.members(until: ")", separator: "=") else {
                return nil
            }
            calls.append(ToolCall(name: name, arguments: arguments))
        }
        return reader.isAtEnd() ? calls : nil
    }

    private static func gemma(_ text: [UInt8]) -> [ToolCall]? {
        var reader = LiteralReader(text, .gemma)
        guard reader.word() == "call", reader.take(":") else { return nil }
        let name = reader.word()
        guard isName(name), reader.take("{"), let arguments = reader.members(until: "}", separator: ":"),
            reader.isAtEnd()
        else { return nil }
        return [ToolCall(name: name, arguments: arguments)]
    }
}

extension UInt8 {
    /// White space of ASCII.
    var isSpace: Bool { self == 0x20 || (0x09...0x0d).contains(self) }
}

extension StringProtocol {
    /// Without white space at its ends.
    func trimmingSpace() -> String {
        let scalars = unicodeScalars
        guard let start = scalars.firstIndex(where: { !$0.properties.isWhitespace }),
            let end = scalars.lastIndex(where: { !$0.properties.isWhitespace })
        else { return "" }
        return String(String.UnicodeScalarView(scalars[start...end]))
    }
}
