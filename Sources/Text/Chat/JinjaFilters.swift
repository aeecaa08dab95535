import OrderedCollections

/// Filters and tests; ``JinjaLibrary`` lists their names.
enum JinjaFilters {
    static func apply(
        _ name: String, _ value: JinjaValue, _ arguments: [JinjaValue], _ named: [String: JinjaValue]
    ) throws -> JinjaValue {
        switch name {
        case "trim", "upper", "lower", "capitalize", "title", "replace":
            return try JinjaMethods.call(.string(value.text), name == "trim" ? "strip" : name, arguments)
        case "length", "count": return .int(try length(value))
        case "tojson":
            guard case .int(let indent)? = named["indent"] ?? arguments.first, (0...16).contains(indent) else {
                return .string(try value.json())
            }
            return .string(try value.json(indent: indent))
        case "join":
            let items = try JinjaEvaluator.iterate(value).map(\.text)
            return .string(items.joined(separator: arguments.first?.text ?? ""))
        case "first": return try JinjaEvaluator.iterate(value).first ?? .undefined("the first element")
        case "last": return try JinjaEvaluator.iterate(value).last ?? .undefined("the last element")
        case "default", "d":
            let falsy = (arguments.count > 1 ? arguments[1] : named["boolean"])?.isTrue ?? false
            if case .undefined = value { return arguments.first ?? .string("") }
            return falsy && !value.isTrue ? arguments.first ?? .string("") : value
        case "list": return .list(try JinjaEvaluator.iterate(value))
        case "string", "safe": return .string(value.text)
        case "int": return .int(Int(exactly: (value.number ?? Double(value.text) ?? 0).rounded(.towardZero)) ?? 0)
        case "float": return .float(value.number ?? Double(value.text) ?? 0)
        case "abs": return value.number.map { $0 < 0 } == true ? try JinjaArithmetic.negate(value) : value
        case "items": return try JinjaMethods.call(value, "items", [])
        case "reverse": return .list(try JinjaEvaluator.iterate(value).reversed())
        case "indent": return .string(indent(value.text, arguments, named))
        default: return try select(name, value, arguments, named)
        }
    }

    private static func length(_ value: JinjaValue) throws -> Int {
        switch value {
        case .string(let text): text.unicodeScalars.count
        case .undefined: 0
        default: try JinjaEvaluator.iterate(value).count
        }
    }

    private static func indent(_ text: String, _ arguments: [JinjaValue], _ named: [String: JinjaValue]) -> String {
        var width = 4
        if case .int(let wanted)? = arguments.first ?? named["width"] { width = min(max(wanted, 0), 64) }
        let first = (arguments.count > 1 ? arguments[1] : named["first"])?.isTrue ?? false
        let pad = String(repeating: " ", count: width)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        return lines.enumerated().map { index, line in
            line.isEmpty || (index == 0 && !first) ? String(line) : pad + line
        }.joined(separator: "\n")
    }

    /// `map`, `select`, `reject`, `selectattr`, `rejectattr`.
    private static func select(
        _ name: String, _ value: JinjaValue, _ arguments: [JinjaValue], _ named: [String: JinjaValue]
    ) throws -> JinjaValue {
        let items = try JinjaEvaluator.iterate(value)
        func member(_ item: JinjaValue, _ key: String) -> JinjaValue {
            if case .dict(let members) = item { return members[key] ?? .undefined(key) }
            return .undefined(key)
        }
        if name == "map" {
            if let attribute = named["attribute"] { return .list(items.map { member($0, attribute.text) }) }
            let filter = arguments.first?.text ?? ""
            guard JinjaLibrary.filters.contains(filter) else {
                throw TextError("map() needs a known filter or attribute")
            }
            return .list(try items.map { try apply(filter, $0, Array(arguments.dropFirst()), [:]) })
        }
        let byAttribute = name.hasSuffix("attr")
        let test = byAttribute ? arguments.dropFirst() : arguments[...]
        let kept = try items.filter { item in
            let subject = byAttribute ? member(item, arguments.first?.text ?? "") : item
            let passes =
                try test.first.map { try Self.test($0.text, subject, Array(test.dropFirst())) } ?? subject.isTrue
            return passes == name.hasPrefix("select")
        }
        return .list(kept)
    }

    static func test(_ name: String, _ value: JinjaValue, _ arguments: [JinjaValue]) throws -> Bool {
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
            return JinjaValue.equal(value, arguments.first ?? .none) == (name != "ne")
        case ("in", _): return try JinjaArithmetic.contains(arguments.first ?? .list([]), value)
        default:
            guard JinjaLibrary.tests.contains(name) else { throw TextError("the test \"\(name)\" is not supported") }
            return false
        }
    }
}
