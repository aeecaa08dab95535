import OrderedCollections

/// Methods of strings and dictionaries, by Python's rules.
enum JinjaMethods {
    static func call(_ base: JinjaValue, _ name: String, _ arguments: [JinjaValue]) throws -> JinjaValue {
        switch base {
        case .string(let text): return try string(text, name, arguments)
        case .dict(let members): return try dict(members, name, arguments)
        case .namespace(let space): return try dict(space.members, name, arguments)
        case .undefined(let what): throw TextError("the chat template calls .\(name)() of \(what), which is undefined")
        default: throw TextError("a \(base.typeName) has no method \(name)")
        }
    }

    private static func dict(
        _ members: OrderedDictionary<String, JinjaValue>, _ name: String, _ arguments: [JinjaValue]
    ) throws -> JinjaValue {
        switch name {
        case "items": return .list(members.map { .list([.string($0.key), $0.value]) })
        case "keys": return .list(members.keys.map(JinjaValue.string))
        case "values": return .list(Array(members.values))
        case "get": return arguments.first.flatMap { members[$0.text] } ?? (arguments.count > 1 ? arguments[1] : .none)
        default: throw TextError("a dictionary has no method \(name)")
        }
    }

    private static func string(_ text: String, _ name: String, _ arguments: [JinjaValue]) throws -> JinjaValue {
        let first = arguments.first?.text
        switch name {
        case "strip": return .string(strip(text, first, left: true, right: true))
        case "lstrip": return .string(strip(text, first, left: true, right: false))
        case "rstrip": return .string(strip(text, first, left: false, right: true))
        case "upper": return .string(text.uppercased())
        case "lower": return .string(text.lowercased())
        case "title": return .string(title(text))
        case "capitalize": return .string(capitalize(text))
        case "startswith": return .bool(affixes(arguments).contains { text.utf8.starts(with: $0.utf8) })
        case "endswith":
            return .bool(affixes(arguments).contains { text.utf8.reversed().starts(with: $0.utf8.reversed()) })
        case "replace":
            guard arguments.count >= 2 else { throw TextError("replace() takes two strings") }
            return .string(text.replacingAll(arguments[0].text, arguments[1].text))
        case "find":
            guard let found = text[...].firstRange(ofScalars: first ?? "") else { return .int(-1) }
            return .int(text.unicodeScalars.distance(from: text.startIndex, to: found.lowerBound))
        case "split": return .list(try split(text, arguments).map(JinjaValue.string))
        case "join":
            return .string(try JinjaEvaluator.iterate(arguments.first ?? .list([])).map(\.text).joined(separator: text))
        default: throw TextError("a string has no method \(name)")
        }
    }

    private static func affixes(_ arguments: [JinjaValue]) -> [String] {
        guard case .list(let items)? = arguments.first else { return arguments.first.map { [$0.text] } ?? [] }
        return items.map(\.text)
    }

    static func strip(_ text: String, _ characters: String?, left: Bool, right: Bool) -> String {
        let set = characters.map { Set($0.unicodeScalars) }
        func goes(_ scalar: Unicode.Scalar) -> Bool { set?.contains(scalar) ?? scalar.properties.isWhitespace }
        var view = text.unicodeScalars[...]
        if left { while let first = view.first, goes(first) { view.removeFirst() } }
        if right { while let last = view.last, goes(last) { view.removeLast() } }
        return String(view)
    }

    static func capitalize(_ text: String) -> String {
        guard let first = text.unicodeScalars.first else { return text }
        return String(first).uppercased() + String(text.unicodeScalars.dropFirst()).lowercased()
    }

    static func title(_ text: String) -> String {
        var out = ""
        var inWord = false
        for scalar in text.unicodeScalars {
            out += inWord ? String(scalar).lowercased() : String(scalar).uppercased()
            inWord = scalar.properties.isAlphabetic
        }
        return out
    }

    private static func split(_ text: String, _ arguments: [JinjaValue]) throws -> [String] {
        var most = Int.max
        if arguments.count > 1, case .int(let limit) = arguments[1], limit >= 0 { most = limit }
        guard let separator = arguments.first, case .string(let mark) = separator else {
            return text.unicodeScalars.split(maxSplits: most) { $0.properties.isWhitespace }.map { String($0) }
        }
        guard !mark.isEmpty else { throw TextError("split() by an empty string") }
        var found: [String] = []
        var rest = text[...]
        while found.count < most, let range = rest.firstRange(ofScalars: mark) {
            found.append(String(rest[..<range.lowerBound]))
            rest = rest[range.upperBound...]
        }
        return found + [String(rest)]
    }
}
