/// Tools that a request offers, and which of their parameters are strings, as their JSON schemas say: `<x>5</x>` does not
/// say it itself.
struct OfferedTools: Sendable {
    private var strings: [String: Set<String>] = [:]

    init(_ tools: [JSONValue]) {
        for tool in tools {
            let function = tool["function"] ?? tool
            guard let name = function["name"]?.string else { continue }
            strings[name] = []
            guard case .object(let properties)? = function["parameters"]?["properties"] else { continue }
            strings[name] = Set(properties.filter { $0.value["type"] == .string("string") }.keys)
        }
    }

    func contains(_ tool: String) -> Bool { strings[tool] != nil }

    func isString(_ parameter: String, of tool: String) -> Bool { strings[tool]?.contains(parameter) ?? false }
}

/// Reads calls in tags.
struct TagReading {
    let marks: TagMarks
    let tools: OfferedTools

    /// The call that a text is; nil where it is none.
    func call(_ text: [UInt8]) -> ToolCall? {
        var at = 0
        if !marks.nameOpen.isEmpty {
            guard let open = TextSearch(marks.nameOpen).first(in: text) else { return nil }
            at = open.upperBound
        }
        let ends = marks.nameCloses.compactMap { TextSearch($0).first(in: text, from: at)?.lowerBound }
        let end = ends.min() ?? text.count
        let name = String(decoding: text[at..<end], as: UTF8.self).trimmingSpace()
        guard CallReading.isName(name), let arguments = arguments(text, end, name) else { return nil }
        return ToolCall(name: name, arguments: arguments)
    }

    private func arguments(_ text: [UInt8], _ start: Int, _ name: String) -> String? {
        var at = start
        var parts: [String] = []
        while let open = TextSearch(marks.keyOpen).first(in: text, from: at) {
            guard let close = TextSearch(marks.keyClose).first(in: text, from: open.upperBound),
                let value = marks.valueOpen.isEmpty
                    ? close : TextSearch(marks.valueOpen).first(in: text, from: close.upperBound),
                let end = TextSearch(marks.valueClose).first(in: text, from: value.upperBound)
            else { return nil }
            let key = String(decoding: text[open.upperBound..<close.lowerBound], as: UTF8.self).trimmingSpace()
            let said = String(decoding: text[close.upperBound..<max(close.upperBound, value.lowerBound)], as: UTF8.self)
            let written = trimmed(String(decoding: text[value.upperBound..<end.lowerBound], as: UTF8.self))
            let isString =
                tools.isString(key, of: name) || (!marks.saysString.isEmpty && said.contains(marks.saysString))
            parts.append("\(JSONText.quoted(key)): \(isString ? JSONText.quoted(written) : Self.value(written))")
            at = end.upperBound
        }
        return "{" + parts.joined(separator: ", ") + "}"
    }

    private func trimmed(_ text: String) -> String {
        if text.hasPrefix("<![CDATA["), text.hasSuffix("]]>") { return String(text.dropFirst(9).dropLast(3)) }
        guard marks.trimsLines else { return text }
        let begun = text.hasPrefix("\n") ? text.dropFirst() : text[...]
        return String(begun.hasSuffix("\n") ? begun.dropLast() : begun)
    }

    /// A value as JSON: what looks like a number, a word of JSON or Python, a list or an object is one, all else is a
    /// string.
    static func value(_ text: String) -> String {
        let bare = text.trimmingSpace()
        guard bare.utf8.first.map({ !"\"'<".utf8.contains($0) }) == true else { return JSONText.quoted(text) }
        if (try? JSONValue(parsing: bare)) != nil { return bare }
        return LiteralReader.whole(bare, .python) ?? JSONText.quoted(text)
    }
}

/// Reads calls that are trees of tags, each behind a mark that no value holds: `M<invoke name="f">M<key>1M</key>…`.
struct NestedReading {
    private static let deepest = 64

    let mark: String
    let tools: OfferedTools

    func call(_ text: [UInt8]) -> ToolCall? {
        var pieces: [[UInt8]] = []
        var at = 0
        let search = TextSearch(mark)
        while let found = search.first(in: text, from: at) {
            pieces.append(Array(text[at..<found.lowerBound]))
            at = found.upperBound
        }
        pieces.append(Array(text[at...]))
        var reader = Tags(pieces: pieces.dropFirst().map { String(decoding: $0, as: UTF8.self) })
        return reader.call(tools)
    }

    private struct Tags {
        let pieces: [String]
        var at = 0

        init(pieces: [String]) { self.pieces = pieces }

        /// The tag that comes next, without its brackets, and the text behind it.
        private func next() -> (tag: Substring, text: Substring)? {
            guard at < pieces.count, pieces[at].hasPrefix("<"), let end = pieces[at].firstIndex(of: ">") else {
                return nil
            }
            let piece = pieces[at]
            return (piece[piece.index(after: piece.startIndex)..<end], piece[piece.index(after: end)...])
        }

        mutating func call(_ tools: OfferedTools) -> ToolCall? {
            guard let (tag, _) = next(), tag.hasPrefix("invoke name=\""), tag.hasSuffix("\"") else { return nil }
            at += 1
            let name = String(tag.dropFirst(13).dropLast())
            guard CallReading.isName(name),
                let members = children(of: "invoke", 0, isString: { tools.isString($0, of: name) })
            else { return nil }
            return ToolCall(name: name, arguments: object(members))
        }

        private func object(_ members: [(key: String, value: String)]) -> String {
            "{" + members.map { "\(JSONText.quoted($0.key)): \($0.value)" }.joined(separator: ", ") + "}"
        }

        private mutating func children(
            of parent: Substring, _ depth: Int, isString: (String) -> Bool
        ) -> [(key: String, value: String)]? {
            guard depth < NestedReading.deepest else { return nil }
            var found: [(key: String, value: String)] = []
            while let (tag, text) = next() {
                at += 1
                if tag.first == "/" { return tag.dropFirst() == parent ? found : nil }
                guard let inner = children(of: tag, depth + 1, isString: { _ in false }) else { return nil }
                found.append((String(tag), value(inner, String(text), isString(String(tag)))))
            }
            return nil
        }

        private func value(_ inner: [(key: String, value: String)], _ text: String, _ isString: Bool) -> String {
            if inner.isEmpty { return isString ? JSONText.quoted(text) : TagReading.value(text) }
            guard inner.allSatisfy({ $0.key == "item" }) else { return object(inner) }
            return "[" + inner.map(\.value).joined(separator: ", ") + "]"
        }
    }
}
