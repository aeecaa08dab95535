/// Jinja's tests.
enum JinjaTests {
    private static let plain: Set<String> = [
        "odd", "even", "defined", "undefined", "filter", "test", "none", "boolean", "false", "true", "integer", "float",
        "lower", "upper", "string", "mapping", "number", "sequence", "iterable", "callable", "escaped",
    ]
    private static let comparing: [String: String] = [
        "eq": "==", "equalto": "==", "==": "==", "ne": "!=", "!=": "!=", "gt": ">", "greaterthan": ">", ">": ">",
        "ge": ">=", ">=": ">=", "lt": "<", "lessthan": "<", "<": "<", "le": "<=", "<=": "<=", "in": "in",
        "sameas": "sameas", "divisibleby": "divisibleby",
    ]

    static let names = plain.union(comparing.keys)

    static func apply(
        _ name: String, _ value: JinjaValue, _ call: JinjaCall, _ budget: JinjaBudget
    ) throws -> Bool {
        try budget.step()
        if let comparison = comparing[name] {
            guard let other = try call.bound(to: ["other!"], name)[0] else { return false }
            switch comparison {
            case "==": return try JinjaValue.equal(value, other, budget)
            case "!=": return try !JinjaValue.equal(value, other, budget)
            case "in": return try JinjaOrder(budget).contains(other, value)
            case "sameas":
                if case .string(let text) = value { try budget.spend(text.count) }
                return JinjaValue.isSame(value, other)
            case "divisibleby": return try remainder(value, other, budget) == 0
            default: return try JinjaOrder(budget).holds(comparison, value, other)
            }
        }
        guard plain.contains(name) else { throw TextError("the test \"\(name)\" is not supported") }
        _ = try call.bound(to: [], name)
        switch name {
        case "odd": return try remainder(value, .int(2), budget) == 1
        case "even": return try remainder(value, .int(2), budget) == 0
        case "lower", "upper":
            let text = try value.text(budget)
            return try JinjaStrings.call(text, name == "lower" ? "islower" : "isupper", JinjaCall(), budget).isTrue
        case "filter", "test":
            switch value {
            case .dict, .list: _ = try JinjaKey(value, budget)
            default: break
            }
            return isOf(name, value)
        default: return isOf(name, value)
        }
    }

    private static func remainder(_ value: JinjaValue, _ by: JinjaValue, _ budget: JinjaBudget) throws -> Double {
        return try JinjaArithmetic(budget).apply("%", value, by).number ?? .nan
    }

    private static func isOf(_ name: String, _ value: JinjaValue) -> Bool {
        switch (name, value) {
        case ("undefined", .undefined), ("none", .none), ("boolean", .bool), ("integer", .int), ("float", .float),
            ("string", .string), ("mapping", .dict), ("number", .int), ("number", .float), ("number", .bool):
            return true
        case ("defined", _): return !value.isUndefined
        case ("true", .bool(let b)): return b
        case ("false", .bool(let b)): return !b
        case ("escaped", .string(let text)): return text.isMarkup
        case ("sequence", .list(let list)): return list.isIndexed
        case ("sequence", .string), ("sequence", .dict), ("sequence", .undefined): return true
        case ("iterable", .list), ("iterable", .string), ("iterable", .dict), ("iterable", .undefined),
            ("iterable", .generator), ("iterable", .loop):
            return true
        case ("callable", .function), ("callable", .macro), ("callable", .method), ("callable", .joiner),
            ("callable", .loop), ("callable", .undefined):
            return true
        case ("filter", .string(let text)): return JinjaFilters.signatures[text.string] != nil
        case ("test", .string(let text)): return names.contains(text.string)
        default: return false
        }
    }
}
