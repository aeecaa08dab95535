/// An attribute by name, by number, or by a path of both with points between them; none is the value itself.
struct JinjaAttribute {
    private let path: [JinjaValue]
    private let standard: JinjaValue?
    private let budget: JinjaBudget

    init(_ attribute: JinjaValue, _ budget: JinjaBudget, default standard: JinjaValue? = nil) throws {
        self.budget = budget
        if let standard, !standard.isNone { self.standard = standard } else { self.standard = nil }
        switch attribute {
        case .none: path = []
        case .string(let text):
            try budget.elements(text.count)
            path = text.string.split(separator: ".", omittingEmptySubsequences: false).map { part in
                part.allSatisfy { $0.isASCII && $0.isNumber }
                    ? Int(part).map(JinjaValue.int) ?? .text(String(part)) : .text(String(part))
            }
        default: path = [attribute]
        }
    }

    func of(_ value: JinjaValue) throws -> JinjaValue {
        var found = value
        for part in path {
            try budget.step()
            found = try JinjaAccess(budget).element(found, part)
            if let standard, found.isUndefined { found = standard }
        }
        return found
    }
}

/// Filters that take another filter or a test by its name: `map`, `select` and their kin; and `format`.
struct JinjaSelection {
    private let budget: JinjaBudget

    init(_ budget: JinjaBudget) { self.budget = budget }

    func apply(_ name: String, _ value: JinjaValue, _ call: JinjaCall) throws -> JinjaValue {
        // Nothing gives nothing, also where it could not be walked through.
        if name != "format", !value.isTrue { return try budget.generator([]) }
        switch name {
        case "format": return .string(try format(try value.text(budget), call))
        case "map": return try map(value, call)
        default: return try select(value, call, byAttribute: name.hasSuffix("attr"), keeps: name.hasPrefix("select"))
        }
    }

    private func format(_ text: TemplateText, _ call: JinjaCall) throws -> TemplateText {
        guard !call.named.isEmpty else {
            try budget.elements(call.positional.count)
            return try JinjaFormat(budget).percent(text, try budget.list(call.positional, .tuple))
        }
        guard call.positional.isEmpty else { throw TextError("format takes values with names or without") }
        var members: JinjaMembers = [:]
        for (name, value) in call.named { members[call.key(name)] = value }
        return try JinjaFormat(budget).percent(text, try budget.dict(members))
    }

    private func map(_ value: JinjaValue, _ call: JinjaCall) throws -> JinjaValue {
        let items = try value.elements(budget)
        try budget.elements(items.count)
        if call.positional.isEmpty {
            let arguments = try call.bound(to: ["attribute!", "default"], "map")
            let attribute = try JinjaAttribute(arguments[0] ?? .none, budget, default: arguments[1])
            return try budget.generator(try items.map { try attribute.of($0) })
        }
        guard case .string(let filter)? = call.positional.first else { throw TextError("map() takes a filter's name") }
        // Filters that name others would recurse without end.
        guard filter != "map", !filter.string.hasPrefix("select"), !filter.string.hasPrefix("reject") else {
            throw TextError("map() of \(filter.string) is not supported")
        }
        let rest = JinjaCall(positional: Array(call.positional.dropFirst()), named: call.named)
        return try budget.generator(try items.map { try JinjaFilters.apply(filter.string, $0, rest, budget) })
    }

    private func select(
        _ value: JinjaValue, _ call: JinjaCall, byAttribute: Bool, keeps: Bool
    ) throws -> JinjaValue {
        var arguments = call.positional[...]
        let attribute: JinjaAttribute?
        if byAttribute {
            guard let name = arguments.popFirst() else { throw TextError("selectattr() takes an attribute") }
            attribute = try JinjaAttribute(name, budget)
        } else {
            attribute = nil
        }
        var test: String?
        if let name = arguments.popFirst() {
            guard case .string(let text) = name else { throw TextError("select() takes a test's name") }
            test = text.string
        }
        let rest = JinjaCall(positional: Array(arguments), named: call.named)
        let items = try value.elements(budget)
        try budget.elements(items.count)
        let kept = try items.filter { item in
            try budget.step()
            let subject = try attribute?.of(item) ?? item
            let passes = try test.map { try JinjaTests.apply($0, subject, rest, budget) } ?? subject.isTrue
            return passes == keeps
        }
        return try budget.generator(kept)
    }
}
