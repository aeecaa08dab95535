/// Methods of strings and dictionaries, by Python's rules.
enum JinjaMethods {
    static func call(
        _ base: JinjaValue, _ name: String, _ arguments: [JinjaValue], _ budget: JinjaBudget
    ) throws -> JinjaValue {
        switch base {
        case .string(let text): return try string(text, name, arguments, budget)
        case .dict(let dict): return try self.dict(dict.members, name, arguments, budget)
        case .namespace(let space): return try dict(space.members, name, arguments, budget)
        case .undefined(let what): throw TextError("the chat template calls .\(name)() of \(what), which is undefined")
        default: throw TextError("a \(base.typeName) has no method \(name)")
        }
    }

    private static func dict(
        _ members: JinjaMembers, _ name: String, _ arguments: [JinjaValue], _ budget: JinjaBudget
    ) throws -> JinjaValue {
        switch name {
        case "items":
            try budget.elements(3 * members.count)
            return try budget.list(members.map { try budget.list([.string($0.key), $0.value]) })
        case "keys":
            try budget.elements(members.count)
            return try budget.list(members.keys.map(JinjaValue.string))
        case "values":
            try budget.elements(members.count)
            return try budget.list(Array(members.values))
        case "get":
            guard let key = arguments.first, let found = members[try key.text(budget)] else {
                return arguments.count > 1 ? arguments[1] : .none
            }
            return found
        default: throw TextError("a dictionary has no method \(name)")
        }
    }

    private static func string(
        _ text: String, _ name: String, _ arguments: [JinjaValue], _ budget: JinjaBudget
    ) throws -> JinjaValue {
        // Cases and white space cost more than copying.
        try budget.text(text.utf8.count)
        try budget.spend(4 * text.utf8.count)
        let first = try arguments.first?.text(budget)
        switch name {
        case "strip": return .string(strip(text, first, left: true, right: true))
        case "lstrip": return .string(strip(text, first, left: true, right: false))
        case "rstrip": return .string(strip(text, first, left: false, right: true))
        case "upper": return .string(text.uppercased())
        case "lower": return .string(text.lowercased())
        case "title": return .string(title(text))
        case "capitalize": return .string(capitalize(text))
        case "startswith": return .bool(try affixes(arguments, budget).contains { text.utf8.starts(with: $0.utf8) })
        case "endswith":
            return .bool(
                try affixes(arguments, budget).contains { text.utf8.reversed().starts(with: $0.utf8.reversed()) })
        case "replace": return .string(try replace(text, arguments, budget))
        case "find":
            guard let first, !first.isEmpty else { return .int(0) }
            let bytes = Array(text.utf8)
            guard let found = TextSearch(first).first(in: bytes) else { return .int(-1) }
            return .int(bytes[..<found.lowerBound].count { $0 & 0xc0 != 0x80 })
        case "split": return try split(text, arguments, budget)
        case "join": return .string(try join(arguments.first ?? .string(""), text, budget))
        default: throw TextError("a string has no method \(name)")
        }
    }

    private static func affixes(_ arguments: [JinjaValue], _ budget: JinjaBudget) throws -> [String] {
        guard case .list(let list)? = arguments.first else {
            return try arguments.first.map { [try $0.text(budget)] } ?? []
        }
        try budget.elements(list.items.count)
        return try list.items.map { item in
            let affix = try item.text(budget)
            try budget.spend(affix.utf8.count)
            return affix
        }
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
            out += inWord ? scalar.properties.lowercaseMapping : scalar.properties.uppercaseMapping
            inWord = scalar.properties.isAlphabetic
        }
        return out
    }

    static func join(_ items: JinjaValue, _ separator: String, _ budget: JinjaBudget) throws -> String {
        var out = ""
        for (index, item) in try JinjaEvaluator.iterate(items, budget).enumerated() {
            let text = try item.text(budget)
            try budget.text(text.utf8.count + separator.utf8.count)
            try checkLength(out, text.utf8.count + separator.utf8.count)
            if index > 0 { out += separator }
            out += text
        }
        return out
    }

    private static func checkLength(_ text: String, _ more: Int) throws {
        guard text.utf8.count + more <= JinjaBudget.textLimit else {
            throw TextError("the chat template writes too much text")
        }
    }

    /// `text.replace(old, new, count)`; an empty `old` stands before every character and at the end.
    private static func replace(_ text: String, _ arguments: [JinjaValue], _ budget: JinjaBudget) throws -> String {
        guard arguments.count >= 2 else { throw TextError("replace() takes two strings") }
        let (old, new) = (try arguments[0].text(budget), try arguments[1].text(budget))
        var left = Int.max
        if arguments.count > 2, case .int(let count) = arguments[2], count >= 0 { left = count }
        try budget.text(5 * old.utf8.count)
        let search = TextSearch(old)
        let bytes = Array(text.utf8)
        var out: [UInt8] = []
        var at = 0
        func next() -> Range<Int>? {
            if !old.isEmpty { return search.first(in: bytes, from: at) }
            // Behind the character that was passed last.
            let place =
                out.isEmpty && at == 0 ? 0 : at < bytes.count ? min(at + UTF8Text.length(bytes[at]), bytes.count) : nil
            return place.map { $0..<$0 }
        }
        while left > 0, let range = next() {
            left -= 1
            try budget.text(new.utf8.count + range.lowerBound - at)
            guard out.count + new.utf8.count <= JinjaBudget.textLimit else {
                throw TextError("the chat template writes too much text")
            }
            out += bytes[at..<range.lowerBound]
            out += new.utf8
            at = range.upperBound
            if old.isEmpty, new.isEmpty { break }
        }
        out += bytes[min(at, bytes.count)...]
        return String(decoding: out, as: UTF8.self)
    }

    private static func split(_ text: String, _ arguments: [JinjaValue], _ budget: JinjaBudget) throws -> JinjaValue {
        var most = Int.max
        if arguments.count > 1, case .int(let limit) = arguments[1], limit >= 0 { most = limit }
        var found: [JinjaValue] = []
        guard case .string(let mark)? = arguments.first else {
            try budget.elements(min(most, text.utf8.count / 2 + 1))
            return try budget.list(splitAtSpace(text, most).map(JinjaValue.string))
        }
        guard !mark.isEmpty else { throw TextError("split() by an empty string") }
        let search = TextSearch(mark)
        let bytes = Array(text.utf8)
        var at = 0
        while found.count < most, let range = search.first(in: bytes, from: at) {
            try budget.elements(1)
            found.append(.string(String(decoding: bytes[at..<range.lowerBound], as: UTF8.self)))
            at = range.upperBound
        }
        found.append(.string(String(decoding: bytes[at...], as: UTF8.self)))
        return try budget.list(found)
    }

    /// Python's `split()`: what is left after the last split keeps its spaces, but for those before it.
    private static func splitAtSpace(_ text: String, _ most: Int) -> [String] {
        var found: [String] = []
        var rest = text.unicodeScalars[...]
        while true {
            rest = rest.drop { $0.properties.isWhitespace }
            if rest.isEmpty { return found }
            if found.count == most { return found + [String(rest)] }
            let word = rest.prefix { !$0.properties.isWhitespace }
            found.append(String(word))
            rest = rest[word.endIndex...]
        }
    }
}
