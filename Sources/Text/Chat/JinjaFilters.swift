/// Filters and tests; ``JinjaLibrary`` lists their names.
enum JinjaFilters {
    static func apply(
        _ name: String, _ value: JinjaValue, _ arguments: [JinjaValue], _ named: [String: JinjaValue],
        _ budget: JinjaBudget
    ) throws -> JinjaValue {
        try budget.step()
        switch name {
        case "trim", "upper", "lower", "capitalize", "title", "replace":
            let text = JinjaValue.string(try value.text(budget))
            return try JinjaMethods.call(text, name == "trim" ? "strip" : name, arguments, budget)
        case "length", "count": return .int(try length(value, budget))
        case "tojson":
            guard case .int(let indent)? = named["indent"] ?? arguments.first, (0...16).contains(indent) else {
                return .string(try value.json(budget))
            }
            return .string(try value.json(indent: indent, budget))
        case "join":
            return .string(try JinjaMethods.join(value, try arguments.first?.text(budget) ?? "", budget))
        case "first": return try JinjaEvaluator.iterate(value, budget).first ?? .undefined("the first element")
        case "last": return try JinjaEvaluator.iterate(value, budget).last ?? .undefined("the last element")
        case "default", "d":
            let falsy = (arguments.count > 1 ? arguments[1] : named["boolean"])?.isTrue ?? false
            if case .undefined = value { return arguments.first ?? .string("") }
            return falsy && !value.isTrue ? arguments.first ?? .string("") : value
        case "list": return try budget.list(try JinjaEvaluator.iterate(value, budget))
        case "string", "safe": return .string(try value.text(budget))
        case "int": return .int(try integer(value, budget))
        case "float": return .float(try value.number ?? Double(try value.text(budget)) ?? 0)
        case "abs": return value.number.map { $0 < 0 } == true ? try JinjaArithmetic.negate(value) : value
        case "items": return try JinjaMethods.call(value, "items", [], budget)
        case "reverse": return try reverse(value, budget)
        case "indent": return .string(try indent(try value.text(budget), arguments, named, budget))
        default: return try select(name, value, arguments, named, budget)
        }
    }

    private static func length(_ value: JinjaValue, _ budget: JinjaBudget) throws -> Int {
        switch value {
        case .string(let text):
            try budget.spend(text.utf8.count)
            return text.unicodeScalars.count
        case .undefined: return 0
        case .list(let list): return list.items.count
        case .dict(let dict): return dict.members.count
        default: return try JinjaEvaluator.iterate(value, budget).count
        }
    }

    private static func integer(_ value: JinjaValue, _ budget: JinjaBudget) throws -> Int {
        if case .int(let i) = value { return i }
        let text = try value.text(budget)
        return Int(text) ?? Int(exactly: (value.number ?? Double(text) ?? 0).rounded(.towardZero)) ?? 0
    }

    private static func reverse(_ value: JinjaValue, _ budget: JinjaBudget) throws -> JinjaValue {
        guard case .string(let text) = value else {
            let items = try JinjaEvaluator.iterate(value, budget)
            try budget.elements(items.count)
            return try budget.list(items.reversed())
        }
        try budget.text(5 * text.utf8.count)
        var view = String.UnicodeScalarView()
        view.append(contentsOf: text.unicodeScalars.reversed())
        return .string(String(view))
    }

    private static func indent(
        _ text: String, _ arguments: [JinjaValue], _ named: [String: JinjaValue], _ budget: JinjaBudget
    ) throws -> String {
        var width = 4
        if case .int(let wanted)? = arguments.first ?? named["width"] { width = min(max(wanted, 0), 64) }
        let first = (arguments.count > 1 ? arguments[1] : named["first"])?.isTrue ?? false
        let pad = [UInt8](repeating: 0x20, count: width)
        let lines = text.utf8.split(separator: 0x0a, omittingEmptySubsequences: false)
        try budget.text(text.utf8.count + lines.count * width)
        var out: [UInt8] = []
        for (index, line) in lines.enumerated() {
            if index > 0 { out.append(0x0a) }
            if !line.isEmpty, index > 0 || first { out += pad }
            out += line
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// `map`, `select`, `reject`, `selectattr`, `rejectattr`.
    private static func select(
        _ name: String, _ value: JinjaValue, _ arguments: [JinjaValue], _ named: [String: JinjaValue],
        _ budget: JinjaBudget
    ) throws -> JinjaValue {
        let items = try JinjaEvaluator.iterate(value, budget)
        try budget.elements(items.count)
        func member(_ item: JinjaValue, _ key: String) -> JinjaValue {
            if case .dict(let dict) = item { return dict.members[key] ?? .undefined(key) }
            return .undefined(key)
        }
        if name == "map" {
            if let attribute = try named["attribute"]?.text(budget) {
                return try budget.list(items.map { member($0, attribute) })
            }
            let filter = try arguments.first?.text(budget) ?? ""
            guard filter != "map", JinjaLibrary.filters.contains(filter) else {
                throw TextError("map() needs a known filter or attribute")
            }
            return try budget.list(items.map { try apply(filter, $0, Array(arguments.dropFirst()), [:], budget) })
        }
        let byAttribute = name.hasSuffix("attr")
        let key = byAttribute ? try arguments.first?.text(budget) ?? "" : ""
        let test = byAttribute ? arguments.dropFirst() : arguments[...]
        let testName = try test.first?.text(budget)
        let kept = try items.filter { item in
            try budget.step()
            let subject = byAttribute ? member(item, key) : item
            let passes =
                try testName.map { try Self.test($0, subject, Array(test.dropFirst()), budget) } ?? subject.isTrue
            return passes == name.hasPrefix("select")
        }
        return try budget.list(kept)
    }

    static func test(
        _ name: String, _ value: JinjaValue, _ arguments: [JinjaValue], _ budget: JinjaBudget
    ) throws -> Bool {
        switch (name, value) {
        case ("defined", .undefined), ("undefined", .undefined): return name == "undefined"
        case ("defined", _): return true
        case ("none", .none), ("string", .string), ("boolean", .bool), ("mapping", .dict), ("integer", .int),
            ("float", .float):
            return true
        case ("number", .int), ("number", .float): return true
        case ("sequence", .list), ("sequence", .string), ("sequence", .dict): return true
        case ("iterable", .list), ("iterable", .string), ("iterable", .dict): return true
        case ("true", .bool(let b)): return b
        case ("false", .bool(let b)): return !b
        case ("odd", .int(let i)): return i % 2 != 0
        case ("even", .int(let i)): return i % 2 == 0
        case ("eq", _), ("equalto", _), ("ne", _):
            return try JinjaValue.equal(value, arguments.first ?? .none, budget) == (name != "ne")
        case ("in", _):
            guard let whole = arguments.first else { return false }
            return try JinjaArithmetic.contains(whole, value, budget)
        default:
            guard JinjaLibrary.tests.contains(name) else { throw TextError("the test \"\(name)\" is not supported") }
            return false
        }
    }
}
