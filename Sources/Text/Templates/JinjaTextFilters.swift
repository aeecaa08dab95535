/// Filters that make texts of texts.
struct JinjaTextFilters {
    private let budget: JinjaBudget

    init(_ budget: JinjaBudget) { self.budget = budget }

    func apply(_ name: String, _ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue? {
        switch name {
        case "upper", "lower", "capitalize":
            return try JinjaStrings.call(try value.text(budget), name, JinjaCall(), budget)
        case "trim":
            let text = try value.text(budget)
            try budget.text(text)
            try budget.spend(4 * text.count)
            return .string(JinjaStrings.strip(text, try arguments.text(0)?.string, left: true, right: true))
        case "title": return .string(try title(try value.text(budget)))
        case "center":
            return .string(
                try JinjaStrings.padded(
                    try value.text(budget), to: try arguments.integer(0) ?? 80, " ", "c", budget))
        case "replace": return .string(try replace(try value.text(budget), arguments))
        case "indent":
            guard case .string(let text) = value else { throw TextError("indent takes a string") }
            return .string(try indent(text, arguments))
        case "truncate":
            guard case .string(let text) = value else { return try kept(value, arguments) }
            return .string(try truncate(text, arguments))
        case "string": return .string(try value.text(budget))
        case "safe":
            var text = try value.text(budget)
            text.isMarkup = true
            return .string(text)
        case "e", "escape", "forceescape":
            var text = try value.text(budget)
            try budget.text(6 * text.cost)
            if name == "forceescape" { text.isMarkup = false }
            return .string(text.escaped)
        case "striptags": return .string(try JinjaTags.strip(try value.text(budget), budget))
        case "pprint": return .string(try JinjaPrettyPrinter.text(value, budget))
        case "urlize": return .string(try JinjaLinks(arguments, budget).apply(value))
        case "wordwrap":
            guard case .string(let text) = value else { throw TextError("wordwrap takes a string") }
            return .string(try JinjaWordWrap.apply(text, arguments, budget))
        case "xmlattr": return .string(try attributes(value, space: arguments[0]?.isTrue ?? true))
        case "urlencode": return .string(try urlEncoded(value))
        case "wordcount":
            let text = try value.text(budget)
            try budget.spend(4 * text.count)
            return .int(text.string.unicodeScalars.split { !$0.isPythonWord }.count)
        default: return nil
        }
    }

    /// Capitals where words begin: behind space, hyphens and opening brackets, which `str.title` sees otherwise.
    private func title(_ text: TemplateText) throws -> TemplateText {
        try budget.text(text)
        try budget.spend(4 * text.count)
        var begins = true
        let lowered = JinjaStrings.lower(text)
        return lowered.mapScalars { scalar in
            let divides = scalar.isPythonSpace || "-({[<".unicodeScalars.contains(scalar)
            defer { begins = divides }
            return begins && !divides ? scalar.properties.uppercaseMapping : String(scalar)
        }
    }

    private func replace(_ text: TemplateText, _ arguments: JinjaBound) throws -> TemplateText {
        guard let old = arguments[0], let new = arguments[1] else { return text }
        var (plain, by) = (text, try new.text(budget))
        (plain.isMarkup, by.isMarkup) = (false, false)
        let count = try arguments.integer(2) ?? -1
        try budget.text(text)
        return try JinjaStringSearch.replace(plain, try old.text(budget), by, count, budget)
    }

    private func indent(_ text: TemplateText, _ arguments: JinjaBound) throws -> TemplateText {
        var pad = TemplateText("    ")
        if case .string(let text)? = arguments[0] {
            pad = text
        } else if let width = try arguments.integer(0) {
            pad = TemplateText(String(repeating: " ", count: min(max(width, 0), 1 << 10)))
        }
        // jinja2 appends a line's end, so that an empty last line is one too.
        let whole = text + "\n"
        try budget.text(whole)
        try budget.spend(4 * whole.count)
        let lines = try JinjaStringSearch.lines(whole, keepsEnds: false, budget)
        try budget.text(text.cost + lines.count * (pad.cost + 1))
        var out = TemplateText()
        for (index, item) in lines.enumerated() {
            guard case .string(let line) = item else { continue }
            if index > 0 { out.append("\n") }
            let isPadded = index == 0 ? arguments.isTrue(1) : arguments.isTrue(2) || !line.isEmpty
            if isPadded { out.append(pad) }
            out.append(line)
        }
        out.isMarkup = text.isMarkup
        return out
    }

    private func truncate(_ text: TemplateText, _ arguments: JinjaBound) throws -> TemplateText {
        try budget.text(text)
        let end = try arguments.text(2) ?? "..."
        let (length, leeway) = (try arguments.integer(0) ?? 255, try arguments.integer(3) ?? 5)
        guard length >= JinjaStrings.length(end), leeway >= 0 else { throw TextError("truncate to less than its end") }
        let count = JinjaStrings.length(text)
        if count - leeway <= length { return text }
        let kept = text.string.unicodeScalars.prefix(length - JinjaStrings.length(end))
        var cut = text.slice(0..<kept.reduce(0) { $0 + UTF8.width($1) })
        if !arguments.isTrue(1), let space = TextSearch.last(" ", in: Array(cut.string.utf8)) {
            cut = cut.slice(0..<space.lowerBound)
        }
        return cut + end
    }

    /// What is no text stays as it is where it is short enough, and cannot be cut.
    private func kept(_ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        let (length, leeway) = (try arguments.integer(0) ?? 255, try arguments.integer(3) ?? 5)
        guard length >= JinjaStrings.length(try arguments.text(2) ?? "..."), leeway >= 0,
            try JinjaSequenceFilters(budget).length(value) - leeway <= length
        else { throw TextError("truncate takes a string, not a \(value.typeName)") }
        return value
    }

    /// A dictionary as the attributes of an element of XML, without those that are none or undefined.
    private func attributes(_ value: JinjaValue, space: Bool) throws -> TemplateText {
        guard case .dict(let dict) = value else {
            throw TextError("xmlattr takes a dictionary, not a \(value.typeName)")
        }
        var out = TemplateText()
        for (key, item) in dict.members where !item.isNone && !item.isUndefined {
            guard case .string(let name) = key.value, !name.string.utf8.contains(where: Self.endsName) else {
                throw TextError("xmlattr takes names without spaces, \"/\", \">\" and \"=\"")
            }
            let text = try item.text(budget)
            try budget.text(6 * (name.cost + text.cost) + 4)
            guard out.cost + 6 * (name.cost + text.cost) <= JinjaBudget.textLimit else {
                throw TextError("the chat template writes too much text")
            }
            if space || !out.isEmpty { out.append(" ") }
            out.append(name.escaped + "=\"" + text.escaped + "\"")
        }
        return out
    }

    private static func endsName(_ byte: UInt8) -> Bool { (0x09...0x0d).contains(byte) || " />=".utf8.contains(byte) }

    private func urlEncoded(_ value: JinjaValue) throws -> TemplateText {
        switch value {
        case .dict(let dict):
            try budget.elements(3 * dict.members.count)
            return try query(try dict.members.map { try budget.list([$0.key.value, $0.value], .tuple) })
        case .list, .generator, .loop, .undefined: return try query(try value.elements(budget))
        default: return try quoted(value, inQuery: false)
        }
    }

    private func query(_ pairs: [JinjaValue]) throws -> TemplateText {
        var out = TemplateText()
        for (index, pair) in pairs.enumerated() {
            let items = try pair.elements(budget)
            guard items.count == 2 else { throw TextError("urlencode takes pairs") }
            let text = try quoted(items[0], inQuery: true) + "=" + quoted(items[1], inQuery: true)
            guard out.cost + text.cost < JinjaBudget.textLimit else {
                throw TextError("the chat template writes too much text")
            }
            if index > 0 { out.append("&") }
            out.append(text)
        }
        return out
    }

    private func quoted(_ value: JinjaValue, inQuery: Bool) throws -> TemplateText {
        let text = try value.text(budget)
        try budget.text(3 * text.cost)
        return text.mapScalars { scalar in
            if scalar.isASCII, scalar.properties.isAlphabetic || ("0"..."9").contains(scalar) { return String(scalar) }
            if "_.-~".unicodeScalars.contains(scalar) || scalar == "/" && !inQuery { return String(scalar) }
            if scalar == " " && inQuery { return "+" }
            return String(scalar).utf8.map { byte in
                (byte < 0x10 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
            }.joined()
        }
    }
}
