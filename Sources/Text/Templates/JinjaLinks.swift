/// The filter `urlize`: addresses in a text become links, the rest is escaped for HTML.
struct JinjaLinks {
    private let budget: JinjaBudget
    /// How many characters of an address are shown.
    private let shown: Int?
    /// What a link to a page says besides its address.
    private let attributes: TemplateText
    private let schemes: [TemplateText]

    init(_ arguments: JinjaBound, _ budget: JinjaBudget) throws {
        self.budget = budget
        shown = try arguments.integer(0)
        attributes =
            try Self.attribute("rel", try Self.relations(arguments, budget), budget)
            + Self.attribute("target", arguments[2] ?? .none, budget)
        schemes = try Self.schemes(arguments[4] ?? .none, budget)
    }

    // MARK: Options

    private static func relations(_ arguments: JinjaBound, _ budget: JinjaBudget) throws -> JinjaValue {
        var words: [TemplateText] = ["noopener"]
        if arguments.isTrue(1) { words.append("nofollow") }
        if let rel = arguments[3], rel.isTrue {
            let rel = try arguments.need(3)
            try budget.text(rel)
            words += try JinjaStringSearch.split(rel, nil, -1, fromEnd: false, budget)
        }
        let sorted = try JinjaOrder(budget).sorted(Array(Set(words))) { .string($0) }
        var out = TemplateText()
        for word in sorted {
            if !out.isEmpty { out.append(" ") }
            out.append(word)
        }
        return .string(out)
    }

    private static func attribute(
        _ name: String, _ value: JinjaValue, _ budget: JinjaBudget
    ) throws -> TemplateText {
        guard value.isTrue else { return "" }
        let text = try value.text(budget)
        try budget.text(6 * text.cost)
        return TemplateText(" \(name)=\"") + text.escaped + "\""
    }

    private static func schemes(_ value: JinjaValue, _ budget: JinjaBudget) throws -> [TemplateText] {
        guard !value.isNone else { return [] }
        return try value.elements(budget).map { item in
            guard case .string(let scheme) = item else { throw TextError("urlize takes schemes as strings") }
            try budget.spend(scheme.count)
            guard JinjaAddress.isScheme(scheme.string) else {
                throw TextError("urlize takes schemes like \"tel:\" and \"ftp://\"")
            }
            return scheme
        }
    }

    // MARK: Text

    func apply(_ value: JinjaValue) throws -> TemplateText {
        let text = try value.text(budget)
        try budget.text(6 * text.cost)
        let escaped = text.escaped
        // Every byte is looked at in turn by what finds the ends, the brackets and the address.
        try budget.spend(16 * escaped.count)
        var out = TemplateText()
        var (start, at, wasSpace) = (0, 0, false)
        for scalar in escaped.string.unicodeScalars {
            if scalar.isPythonSpace != wasSpace {
                try append(escaped.slice(start..<at), isWord: !wasSpace, to: &out)
                (start, wasSpace) = (at, !wasSpace)
            }
            at += UTF8.width(scalar)
        }
        try append(escaped.slice(start..<at), isWord: !wasSpace, to: &out)
        return out
    }

    private func append(_ word: TemplateText, isWord: Bool, to out: inout TemplateText) throws {
        let linked = isWord ? try self.linked(word) : word
        try budget.text(linked)
        guard out.cost + linked.cost <= JinjaBudget.textLimit else {
            throw TextError("the chat template writes too much text")
        }
        out.append(linked)
    }

    private func linked(_ word: TemplateText) throws -> TemplateText {
        let place = JinjaAddress.place(in: Array(word.string.utf8))
        let address = word.slice(place)
        try budget.spend(16 * schemes.count)
        guard let link = try link(address) else { return word }
        return word.slice(0..<place.lowerBound) + link + word.slice(place.upperBound..<word.count)
    }

    /// A link to an address; nil where it is none.
    private func link(_ address: TemplateText) throws -> TemplateText? {
        let text = address.string
        func starts(_ prefix: String) -> Bool { text.utf8.starts(with: prefix.utf8) }
        try budget.text(3 * address.cost + attributes.cost)
        if JinjaAddress.isPage(text) {
            let scheme: TemplateText = starts("https://") || starts("http://") ? "" : "https://"
            return "<a href=\"" + scheme + address + "\"" + attributes + ">" + trimmed(address) + "</a>"
        }
        if starts("mailto:"), JinjaAddress.isMail(text.utf8.dropFirst(7)) {
            return "<a href=\"" + address + "\">" + address.slice(7..<address.count) + "</a>"
        }
        if !starts("www."), !text.utf8.contains(UInt8(ascii: ":")), JinjaAddress.isMail(text.utf8[...]) {
            return "<a href=\"mailto:" + address + "\">" + address + "</a>"
        }
        guard try schemes.contains(where: { try hasScheme(text, $0.string) }) else { return nil }
        return "<a href=\"" + address + "\"" + attributes + ">" + address + "</a>"
    }

    private func hasScheme(_ text: String, _ scheme: String) throws -> Bool {
        try budget.spend(min(text.utf8.count, scheme.utf8.count))
        return text.utf8.count > scheme.utf8.count && text.utf8.starts(with: scheme.utf8)
    }

    private func trimmed(_ address: TemplateText) -> TemplateText {
        let length = JinjaStrings.length(address)
        guard let shown, length > shown else { return address }
        // A negative number counts from the end, as in Python's slices.
        let kept = address.string.unicodeScalars.prefix(max(0, shown < 0 ? length + max(shown, -length) : shown))
        return address.slice(0..<kept.reduce(0) { $0 + UTF8.width($1) }) + "..."
    }
}
