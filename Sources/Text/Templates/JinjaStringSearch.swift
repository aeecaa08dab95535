/// Python's methods of strings that look for others in them: they take time that grows with both, not with their product.
enum JinjaStringSearch {
    static func call(
        _ text: TemplateText, _ name: String, _ arguments: JinjaBound, _ budget: JinjaBudget
    ) throws -> JinjaValue? {
        switch name {
        case "startswith", "endswith": return .bool(try hasAffix(text, name == "startswith", arguments, budget))
        case "replace":
            let count = try arguments.integer(2) ?? -1
            return .string(try replace(text, try arguments.need(0), try arguments.need(1), count, budget))
        case "find", "index", "rfind", "rindex": return .int(try find(text, name, arguments, budget))
        case "count": return .int(try count(text, arguments, budget))
        case "split", "rsplit":
            let most = try arguments.integer(1) ?? -1
            return try budget.list(
                try split(text, try arguments.text(0), most, fromEnd: name == "rsplit", budget).map(JinjaValue.string))
        case "splitlines": return try budget.list(try lines(text, keepsEnds: arguments.isTrue(0), budget))
        case "partition", "rpartition": return try partition(text, try arguments.need(0), name == "partition", budget)
        case "join":
            guard let items = arguments[0] else { return nil }
            return .string(try join(items, text, strict: true, budget))
        default: return nil
        }
    }

    // MARK: Places

    /// The bytes between two characters, counted as Python counts.
    private static func region(_ text: TemplateText, _ arguments: JinjaBound) throws -> Range<Int> {
        let (start, end) = (try arguments.integer(1), try arguments.integer(2))
        if start == nil, end == nil { return 0..<text.count }
        let length = JinjaStrings.length(text)
        func bound(_ value: Int) -> Int { min(max(value < 0 ? value + length : value, 0), length) }
        let (from, to) = (bound(start ?? 0), bound(end ?? length))
        // Python finds nothing behind the end, not even nothing.
        guard from <= to, (start ?? 0) <= length else { return text.count..<text.count }
        let scalars = text.string.unicodeScalars
        let first = scalars.index(scalars.startIndex, offsetBy: from)
        let last = scalars.index(first, offsetBy: to - from)
        let utf8 = text.string.utf8
        return utf8.distance(from: utf8.startIndex, to: first)..<utf8.distance(from: utf8.startIndex, to: last)
    }

    private static func hasAffix(
        _ text: TemplateText, _ atStart: Bool, _ arguments: JinjaBound, _ budget: JinjaBudget
    ) throws -> Bool {
        let bytes = Array(text.string.utf8)[try region(text, arguments)]
        var affixes: [JinjaValue] = arguments[0].map { [$0] } ?? []
        if case .list(let list)? = arguments[0], list.isTuple { affixes = list.items }
        try budget.elements(affixes.count)
        return try affixes.contains { value in
            guard case .string(let affix) = value else {
                throw TextError("\(arguments.what)() takes a string, not a \(value.typeName)")
            }
            try budget.spend(affix.count)
            return atStart
                ? bytes.starts(with: affix.string.utf8) : bytes.reversed().starts(with: affix.string.utf8.reversed())
        }
    }

    private static func find(
        _ text: TemplateText, _ name: String, _ arguments: JinjaBound, _ budget: JinjaBudget
    ) throws -> Int {
        let part = try arguments.need(0)
        try budget.text(5 * part.count)
        let region = try region(text, arguments)
        let bytes = Array(text.string.utf8)
        let hay = Array(bytes[region])
        let isLast = name.hasPrefix("r")
        var found: Int?
        if part.isEmpty {
            found = isLast ? hay.count : 0
        } else {
            found =
                isLast
                ? TextSearch.last(part.string, in: hay)?.lowerBound
                : TextSearch(part.string).first(in: hay)?.lowerBound
        }
        guard let found else {
            if name.hasSuffix("index") { throw TextError("\(name)() does not find what it looks for") }
            return -1
        }
        return bytes[..<(region.lowerBound + found)].count { $0 & 0xc0 != 0x80 }
    }

    private static func count(_ text: TemplateText, _ arguments: JinjaBound, _ budget: JinjaBudget) throws -> Int {
        let part = try arguments.need(0)
        try budget.text(5 * part.count)
        let hay = Array(Array(text.string.utf8)[try region(text, arguments)])
        if part.isEmpty { return hay.count { $0 & 0xc0 != 0x80 } + 1 }
        let search = TextSearch(part.string)
        var (found, at) = (0, 0)
        while let range = search.first(in: hay, from: at) {
            found += 1
            at = range.upperBound
        }
        return found
    }

    // MARK: Replacing and joining

    /// `text.replace(old, new, count)`; an empty `old` stands before every character and at the end.
    static func replace(
        _ text: TemplateText, _ old: TemplateText, _ new: TemplateText, _ count: Int, _ budget: JinjaBudget
    ) throws -> TemplateText {
        try budget.text(5 * old.count)
        let new = text.isMarkup ? new.escaped : new
        let search = TextSearch(old.string)
        let bytes = Array(text.string.utf8)
        var left = count < 0 ? Int.max : count
        var out = TemplateText()
        var (at, isFirst) = (0, true)
        func next() -> Range<Int>? {
            if !old.isEmpty { return search.first(in: bytes, from: at) }
            // Behind the character that was passed last.
            let place = isFirst ? 0 : at < bytes.count ? min(at + UTF8Text.length(bytes[at]), bytes.count) : nil
            return place.map { $0..<$0 }
        }
        while left > 0, let range = next() {
            left -= 1
            isFirst = false
            try budget.text(new.cost + range.lowerBound - at + 32)
            guard out.count + new.count <= JinjaBudget.textLimit else {
                throw TextError("the chat template writes too much text")
            }
            out.append(text.slice(at..<range.lowerBound))
            out.append(new)
            at = range.upperBound
            if old.isEmpty, new.isEmpty { break }
        }
        if at == 0, isFirst { return text }
        out.append(text.slice(min(at, bytes.count)..<bytes.count))
        out.isMarkup = text.isMarkup
        return out
    }

    /// - Parameter strict: whether all must be strings already, as Python's method wants; Jinja's filter makes them ones.
    static func join(
        _ items: JinjaValue, _ separator: TemplateText, strict: Bool, _ budget: JinjaBudget
    ) throws -> TemplateText {
        guard !items.isUndefined || !strict else { return "" }
        var out = TemplateText()
        for (index, item) in try items.elements(budget).enumerated() {
            if strict {
                guard case .string = item else { throw TextError("join() takes strings, not a \(item.typeName)") }
            }
            let text = try item.text(budget)
            let cost = text.cost + (index > 0 ? separator.cost : 0)
            try budget.text(cost)
            guard out.cost + cost <= JinjaBudget.textLimit else {
                throw TextError("the chat template writes too much text")
            }
            if index > 0 { out.append(separator) }
            out.append(strict && separator.isMarkup ? text.escaped : text)
        }
        out.isMarkup = strict && separator.isMarkup
        return out
    }

    // MARK: Splitting

    static func split(
        _ text: TemplateText, _ mark: TemplateText?, _ most: Int, fromEnd: Bool, _ budget: JinjaBudget
    ) throws -> [TemplateText] {
        var most = most < 0 ? Int.max : most
        let bytes = Array(text.string.utf8)
        guard let mark else { return try splitAtSpace(text, most, fromEnd: fromEnd, budget) }
        guard !mark.isEmpty else { throw TextError("split() by an empty string") }
        try budget.text(5 * mark.count)
        // From the end on, all is as in a mirror.
        let hay = fromEnd ? bytes.reversed() : bytes
        let search = TextSearch(fromEnd ? Array(mark.string.utf8.reversed()) : Array(mark.string.utf8))
        func piece(_ range: Range<Int>) -> TemplateText {
            text.slice(fromEnd ? hay.count - range.upperBound..<hay.count - range.lowerBound : range)
        }
        var found: [TemplateText] = []
        var at = 0
        while most > 0, let range = search.first(in: hay, from: at) {
            most -= 1
            try budget.elements(1)
            found.append(piece(at..<range.lowerBound))
            at = range.upperBound
        }
        try budget.elements(1)
        found.append(piece(at..<hay.count))
        return fromEnd ? found.reversed() : found
    }

    /// Python's `split()`: what is left after the last split keeps its spaces, but for those at its outer end.
    private static func splitAtSpace(
        _ text: TemplateText, _ most: Int, fromEnd: Bool, _ budget: JinjaBudget
    ) throws -> [TemplateText] {
        var words: [Range<Int>] = []
        var at = 0
        var start: Int?
        for scalar in text.string.unicodeScalars {
            if scalar.isPythonSpace {
                if let begin = start { words.append(begin..<at) }
                start = nil
            } else if start == nil {
                try budget.elements(1)
                start = at
            }
            at += UTF8.width(scalar)
        }
        if let begin = start { words.append(begin..<at) }
        if words.count > most {
            if fromEnd {
                let rest = words.count - most
                words.replaceSubrange(..<rest, with: [0..<words[rest - 1].upperBound])
            } else {
                words.replaceSubrange(most..., with: [words[most].lowerBound..<text.count])
            }
        }
        return words.map(text.slice)
    }

    static func lines(
        _ text: TemplateText, keepsEnds: Bool, _ budget: JinjaBudget
    ) throws -> [JinjaValue] {
        var found: [JinjaValue] = []
        var (start, at) = (0, 0)
        let scalars = Array(text.string.unicodeScalars)
        var index = 0
        while index < scalars.count {
            let scalar = scalars[index]
            index += 1
            let end = at
            at += UTF8.width(scalar)
            guard isLineEnd(scalar) else { continue }
            if scalar == "\r", index < scalars.count, scalars[index] == "\n" {
                index += 1
                at += 1
            }
            try budget.elements(1)
            found.append(.string(text.slice(start..<(keepsEnds ? at : end))))
            start = at
        }
        if start < text.count { found.append(.string(text.slice(start..<text.count))) }
        return found
    }

    private static func isLineEnd(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x0a...0x0d, 0x1c...0x1e, 0x85, 0x2028, 0x2029: true
        default: false
        }
    }

    private static func partition(
        _ text: TemplateText, _ mark: TemplateText, _ first: Bool, _ budget: JinjaBudget
    ) throws -> JinjaValue {
        guard !mark.isEmpty else { throw TextError("partition() by an empty string") }
        try budget.text(5 * mark.count)
        try budget.elements(3)
        let bytes = Array(text.string.utf8)
        let range = first ? TextSearch(mark.string).first(in: bytes) : TextSearch.last(mark.string, in: bytes)
        guard let range else {
            return try budget.list(
                first ? [.string(text), .text(""), .text("")] : [.text(""), .text(""), .string(text)], .tuple)
        }
        return try budget.list(
            [0..<range.lowerBound, range, range.upperBound..<text.count].map { .string(text.slice($0)) }, .tuple)
    }
}
