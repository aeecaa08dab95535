import Glibc

/// Operators, as Python defines them for these values.
struct JinjaArithmetic {
    private let budget: JinjaBudget

    init(_ budget: JinjaBudget) { self.budget = budget }

    func signed(_ sign: String, _ value: JinjaValue) throws -> JinjaValue {
        switch value {
        case .int(let i) where sign == "+" || i != Int.min: return .int(sign == "-" ? -i : i)
        case .bool(let b): return .int(sign == "-" ? (b ? -1 : 0) : (b ? 1 : 0))
        case .float(let d): return .float(sign == "-" ? -d : d)
        default: throw TextError("the chat template puts a \(sign) before a \(value.typeName)")
        }
    }

    func apply(_ sign: String, _ a: JinjaValue, _ b: JinjaValue) throws -> JinjaValue {
        switch (sign, a, b) {
        case ("~", _, _):
            var (x, y) = (try a.text(budget), try b.text(budget))
            x.isMarkup = false
            y.isMarkup = false
            return try joined(x, y)
        case ("+", .string(let x), .string(let y)):
            guard x.isMarkup || y.isMarkup else { return try joined(x, y) }
            try budget.text(6 * (x.cost + y.cost))
            return try joined(x.escaped, y.escaped)
        case ("+", .list(let x), .list(let y)) where x.kind == .list && y.kind == .list || x.isTuple && y.isTuple:
            try budget.elements(x.items.count + y.items.count)
            return try budget.list(x.items + y.items, x.kind == .list ? .list : .tuple)
        case ("*", .string(let text), _): if let count = b.integer { return try repeated(text, count) }
        case ("*", _, .string(let text)): if let count = a.integer { return try repeated(text, count) }
        case ("*", .list(let list), _): if let count = b.integer { return try repeated(list, count) }
        case ("*", _, .list(let list)): if let count = a.integer { return try repeated(list, count) }
        case ("%", .string(let text), _):
            return .string(try JinjaFormat(budget).percent(text, b))
        default: break
        }
        if sign != "/", let x = a.integer, let y = b.integer { return try integers(sign, x, y) }
        guard let x = a.number, let y = b.number else {
            throw TextError("the chat template computes a \(a.typeName) \(sign) a \(b.typeName), which is not possible")
        }
        return .float(try floats(sign, x, y))
    }

    private func joined(_ a: TemplateText, _ b: TemplateText) throws -> JinjaValue {
        try budget.text(a.cost + b.cost)
        return .string(a + b)
    }

    private func repeated(_ text: TemplateText, _ count: Int) throws -> JinjaValue {
        let (bytes, overflow) = text.cost.multipliedReportingOverflow(by: max(0, count))
        try budget.text(overflow ? .max : bytes)
        if text.foreign.isEmpty, !text.isMarkup {
            return .text(bytes == 0 ? "" : String(repeating: text.string, count: count))
        }
        var out = TemplateText()
        out.isMarkup = text.isMarkup
        if bytes > 0 { for _ in 0..<count { out.append(text) } }
        return .string(out)
    }

    private func repeated(_ list: JinjaList, _ count: Int) throws -> JinjaValue {
        guard list.kind == .list || list.isTuple else {
            throw TextError("the chat template repeats a \(JinjaValue.list(list).typeName)")
        }
        let (total, overflow) = list.items.count.multipliedReportingOverflow(by: max(0, count))
        try budget.elements(overflow ? .max : total)
        var items: [JinjaValue] = []
        items.reserveCapacity(total)
        if total > 0 { for _ in 0..<count { items += list.items } }
        return try budget.list(items, list.kind == .list ? .list : .tuple)
    }

    private func floats(_ sign: String, _ x: Double, _ y: Double) throws -> Double {
        switch sign {
        case "+": return x + y
        case "-": return x - y
        case "*": return x * y
        case "**":
            let power = pow(x, y)
            guard power.isFinite || !x.isFinite || !y.isFinite else { throw outOfRange }
            return power
        default:
            guard y != 0 else { throw TextError("the chat template divides by zero") }
            switch sign {
            case "/": return x / y
            case "//": return (x / y).rounded(.down)
            default:
                let remainder = fmod(x, y)
                return remainder != 0 && (remainder < 0) != (y < 0) ? remainder + y : remainder
            }
        }
    }

    private var outOfRange: TextError { TextError("the chat template computes a number out of range") }

    private func integers(_ sign: String, _ x: Int, _ y: Int) throws -> JinjaValue {
        let (result, overflow): (Int, Bool)
        switch sign {
        case "+": (result, overflow) = x.addingReportingOverflow(y)
        case "-": (result, overflow) = x.subtractingReportingOverflow(y)
        case "*": (result, overflow) = x.multipliedReportingOverflow(by: y)
        case "**":
            if y < 0 { return .float(try floats("**", Double(x), Double(y))) }
            (result, overflow) = Self.power(x, y)
        default:  // "//" and "%", which round down
            guard y != 0, !(x == Int.min && y == -1) else { throw TextError("the chat template divides by zero") }
            let remainder = x % y
            let adjust = remainder != 0 && (remainder < 0) != (y < 0)
            return .int(sign == "%" ? (adjust ? remainder + y : remainder) : x / y - (adjust ? 1 : 0))
        }
        guard !overflow else { throw outOfRange }
        return .int(result)
    }

    private static func power(_ base: Int, _ exponent: Int) -> (Int, overflow: Bool) {
        if (-1...1).contains(base) { return (exponent == 0 ? 1 : exponent % 2 == 0 ? base * base : base, false) }
        guard exponent < 64 else { return (0, true) }
        var result = 1
        for _ in 0..<exponent {
            let (next, overflow) = result.multipliedReportingOverflow(by: base)
            if overflow { return (0, true) }
            result = next
        }
        return (result, false)
    }
}
