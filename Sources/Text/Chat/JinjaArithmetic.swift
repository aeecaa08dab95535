/// Operators, as Python defines them for these values.
enum JinjaArithmetic {
    static func negate(_ value: JinjaValue) throws -> JinjaValue {
        switch value {
        case .int(let i) where i != Int.min: return .int(-i)
        case .float(let d): return .float(-d)
        default: throw TextError("the chat template negates a \(value.typeName)")
        }
    }

    static func apply(_ sign: String, _ a: JinjaValue, _ b: JinjaValue, _ budget: JinjaBudget) throws -> JinjaValue {
        switch sign {
        case "==": return .bool(try JinjaValue.equal(a, b, budget))
        case "!=": return .bool(try !JinjaValue.equal(a, b, budget))
        case "in": return .bool(try contains(b, a, budget))
        case "~": return try joined(try a.text(budget), try b.text(budget), budget)
        case "<", ">", "<=", ">=": return .bool(try compare(sign, a, b, budget))
        default: break
        }
        switch (sign, a, b) {
        case ("+", .string(let x), .string(let y)): return try joined(x, y, budget)
        case ("+", .list(let x), .list(let y)):
            try budget.elements(x.items.count + y.items.count)
            return try budget.list(x.items + y.items)
        case ("*", .string(let x), .int(let n)), ("*", .int(let n), .string(let x)):
            let (bytes, overflow) = x.utf8.count.multipliedReportingOverflow(by: max(0, n))
            try budget.text(overflow ? .max : bytes)
            return .string(bytes == 0 ? "" : String(repeating: x, count: n))
        case (_, .int(let x), .int(let y)) where sign != "/": return .int(try integers(sign, x, y))
        default: break
        }
        guard let x = a.number, let y = b.number else {
            throw TextError("the chat template computes \(a.typeName) \(sign) \(b.typeName), which is not possible")
        }
        return .float(try floats(sign, x, y))
    }

    private static func joined(_ a: String, _ b: String, _ budget: JinjaBudget) throws -> JinjaValue {
        try budget.text(a.utf8.count + b.utf8.count)
        return .string(a + b)
    }

    private static func floats(_ sign: String, _ x: Double, _ y: Double) throws -> Double {
        switch sign {
        case "+": return x + y
        case "-": return x - y
        case "*": return x * y
        default:
            guard y != 0 else { throw TextError("the chat template divides by zero") }
            switch sign {
            case "/": return x / y
            case "//": return (x / y).rounded(.down)
            default: return x - y * (x / y).rounded(.down)
            }
        }
    }

    private static func integers(_ sign: String, _ x: Int, _ y: Int) throws -> Int {
        let (result, overflow): (Int, Bool)
        switch sign {
        case "+": (result, overflow) = x.addingReportingOverflow(y)
        case "-": (result, overflow) = x.subtractingReportingOverflow(y)
        case "*": (result, overflow) = x.multipliedReportingOverflow(by: y)
        default:  // "//" and "%", which round down
            guard y != 0, !(x == Int.min && y == -1) else { throw TextError("the chat template divides by zero") }
            let remainder = x % y
            let adjust = remainder != 0 && (remainder < 0) != (y < 0)
            return sign == "%" ? (adjust ? remainder + y : remainder) : x / y - (adjust ? 1 : 0)
        }
        guard !overflow else { throw TextError("the chat template computes a number out of range") }
        return result
    }

    private static func compare(
        _ sign: String, _ a: JinjaValue, _ b: JinjaValue, _ budget: JinjaBudget
    ) throws -> Bool {
        let order: Int
        if case (.int(let x), .int(let y)) = (a, b) {
            order = x < y ? -1 : x > y ? 1 : 0
        } else if let x = a.number, let y = b.number {
            order = x < y ? -1 : x > y ? 1 : 0
        } else if case (.string(let x), .string(let y)) = (a, b) {
            try budget.spend(2 * min(x.utf8.count, y.utf8.count))
            // UTF-8 has the order of the characters.
            order = x.utf8.elementsEqual(y.utf8) ? 0 : x.utf8.lexicographicallyPrecedes(y.utf8) ? -1 : 1
        } else {
            throw TextError("the chat template compares \(a.typeName) \(sign) \(b.typeName), which is not possible")
        }
        switch sign {
        case "<": return order < 0
        case ">": return order > 0
        case "<=": return order <= 0
        default: return order >= 0
        }
    }

    static func contains(_ whole: JinjaValue, _ part: JinjaValue, _ budget: JinjaBudget) throws -> Bool {
        switch (whole, part) {
        case (.list(let list), _): return try list.items.contains { try JinjaValue.equal($0, part, budget) }
        case (.dict(let dict), _): return dict.members[try part.text(budget)] != nil
        case (.string(let text), .string(let piece)):
            try budget.text(text.utf8.count + 5 * piece.utf8.count)
            return piece.isEmpty || TextSearch(piece).first(in: Array(text.utf8)) != nil
        case (.undefined, _): return false
        default:
            throw TextError("the chat template asks for \(part.typeName) in \(whole.typeName), which is not possible")
        }
    }
}
