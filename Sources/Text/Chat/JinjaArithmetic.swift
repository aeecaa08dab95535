/// Operators, as Python defines them for these values.
enum JinjaArithmetic {
    static func negate(_ value: JinjaValue) throws -> JinjaValue {
        switch value {
        case .int(let i) where i != Int.min: return .int(-i)
        case .float(let d): return .float(-d)
        default: throw TextError("the chat template negates a \(value.typeName)")
        }
    }

    static func apply(_ sign: String, _ a: JinjaValue, _ b: JinjaValue) throws -> JinjaValue {
        switch sign {
        case "==": return .bool(JinjaValue.equal(a, b))
        case "!=": return .bool(!JinjaValue.equal(a, b))
        case "in": return .bool(try contains(b, a))
        case "~": return .string(a.text + b.text)
        case "<", ">", "<=", ">=": return .bool(try compare(sign, a, b))
        default: break
        }
        switch (sign, a, b) {
        case ("+", .string(let x), .string(let y)): return .string(x + y)
        case ("+", .list(let x), .list(let y)): return .list(x + y)
        case ("*", .string(let x), .int(let n)), ("*", .int(let n), .string(let x)):
            guard n <= 0 || x.utf8.count <= JinjaEvaluator.outputLimit / n else {
                throw TextError("the chat template writes too much text")
            }
            return .string(String(repeating: x, count: max(0, n)))
        case (_, .int(let x), .int(let y)) where sign != "/": return .int(try integers(sign, x, y))
        default: break
        }
        guard let x = a.number, let y = b.number else {
            throw TextError("the chat template computes \(a.typeName) \(sign) \(b.typeName), which is not possible")
        }
        switch sign {
        case "+": return .float(x + y)
        case "-": return .float(x - y)
        case "*": return .float(x * y)
        default:
            guard y != 0 else { throw TextError("the chat template divides by zero") }
            switch sign {
            case "/": return .float(x / y)
            case "//": return .float((x / y).rounded(.down))
            default: return .float(x - y * (x / y).rounded(.down))
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

    private static func compare(_ sign: String, _ a: JinjaValue, _ b: JinjaValue) throws -> Bool {
        let order: Int
        if let x = a.number, let y = b.number {
            order = x < y ? -1 : x > y ? 1 : 0
        } else if case (.string(let x), .string(let y)) = (a, b) {
            order =
                x.utf8.elementsEqual(y.utf8) ? 0 : x.unicodeScalars.lexicographicallyPrecedes(y.unicodeScalars) ? -1 : 1
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

    static func contains(_ whole: JinjaValue, _ part: JinjaValue) throws -> Bool {
        switch (whole, part) {
        case (.list(let items), _): return items.contains { JinjaValue.equal($0, part) }
        case (.dict(let members), _): return members[part.text] != nil
        case (.string(let text), .string(let piece)): return text[...].firstRange(ofScalars: piece) != nil
        case (.undefined, _): return false
        default:
            throw TextError("the chat template asks for \(part.typeName) in \(whole.typeName), which is not possible")
        }
    }
}
