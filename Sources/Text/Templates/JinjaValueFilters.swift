import Glibc

/// Filters of numbers, JSON and values of any kind.
struct JinjaValueFilters {
    private let budget: JinjaBudget

    init(_ budget: JinjaBudget) { self.budget = budget }

    func apply(_ name: String, _ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        switch name {
        case "abs":
            guard value.number != nil else { throw TextError("abs takes a number") }
            let positive = try JinjaArithmetic(budget).signed("+", value)
            return (value.number ?? 0) < 0 ? try JinjaArithmetic(budget).signed("-", value) : positive
        case "default", "d":
            let isMissing = value.isUndefined || arguments.isTrue(1) && !value.isTrue
            return isMissing ? arguments[0] ?? .text("") : value
        case "int", "float":
            if case .undefined(let what) = value { throw TextError("\(name) of something undefined: \(what)") }
            if name == "int" { return try integer(value, arguments) }
            if case .string(let text) = value {
                return JinjaNumbers.float(text.string).map(JinjaValue.float) ?? arguments[0] ?? .float(0)
            }
            return value.number.map(JinjaValue.float) ?? arguments[0] ?? .float(0)
        case "round": return try round(value, arguments)
        case "filesizeformat": return .text(try size(value, binary: arguments.isTrue(0)))
        case "tojson": return .string(try json(value, arguments))
        case "from_json":
            guard case .string(let text) = value else { throw TextError("from_json takes a string") }
            try budget.spend(16 * text.count)
            // The text may be the request's, so all strings in it count as that.
            return try budget.value(try JSONValue(parsing: text.string), grants: false)
        case "attr":
            let found = try JinjaAccess(budget).attribute(value, try arguments.need(0).string)
            if case .dict = value {
                if case .method = found {} else { return .undefined("a dictionary has no such attribute") }
            }
            return found
        default: throw TextError("the filter \"\(name)\" is not supported")
        }
    }

    private func integer(_ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        let fallback = arguments[0] ?? .int(0)
        if let int = value.integer { return .int(int) }
        var number = value.number
        if case .string(let text) = value {
            try budget.spend(text.count)
            if let int = JinjaNumbers.int(text.string, radix: try arguments.integer(1) ?? 10) { return .int(int) }
            number = JinjaNumbers.float(text.string)
        }
        return number.flatMap { Int(exactly: $0.rounded(.towardZero)) }.map(JinjaValue.int) ?? fallback
    }

    private func round(_ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        guard let number = value.number else { throw TextError("round takes a number, not a \(value.typeName)") }
        let digits = min(max(try arguments.integer(0) ?? 0, -400), 400)
        let method = try arguments.text(1)?.string ?? "common"
        guard ["common", "ceil", "floor"].contains(method) else { throw TextError("round by an unknown method") }
        guard method == "common" else {
            let power = pow(10, Double(digits))
            // Python rounds to an integer here, which has no -0.
            return .float(((number * power).rounded(method == "ceil" ? .up : .down) + 0) / power)
        }
        if let int = value.integer, digits >= 0 { return .int(int) }
        let rounded = JinjaNumbers.round(number, digits: digits)
        if value.integer != nil { return Int(exactly: rounded).map(JinjaValue.int) ?? value }
        return .float(rounded)
    }

    private func size(_ value: JinjaValue, binary: Bool) throws -> String {
        var number = value.number
        if case .string(let text) = value { number = JinjaNumbers.float(text.string) }
        guard let bytes = number else { throw TextError("filesizeformat takes a number") }
        let base: Double = binary ? 1024 : 1000
        if bytes == 1 { return "1 Byte" }
        if bytes < base { return "\(Int(exactly: bytes.rounded(.towardZero)) ?? 0) Bytes" }
        var unit = base
        let prefixes = Array("kMGTPEZY")
        for (index, prefix) in prefixes.enumerated() {
            unit *= base
            guard bytes < unit || index == prefixes.count - 1 else { continue }
            let name = binary ? "\(String(prefix).uppercased())iB" : "\(prefix)B"
            return JinjaNumbers.formatted(base * bytes / unit, precision: 1, form: "f") + " " + name
        }
        return ""
    }

    // MARK: JSON

    private func json(_ value: JinjaValue, _ arguments: JinjaBound) throws -> TemplateText {
        var style = JinjaWriter.JSONStyle()
        style.isASCII = arguments.isTrue(0)
        style.sortsKeys = arguments.isTrue(3)
        var isForeign = false
        if case .string(let text)? = arguments[1] {
            style.indent = text.string
            isForeign = text.isForeign
        } else if let width = try arguments.integer(1) {
            style.indent = String(repeating: " ", count: min(max(width, 0), 64))
        }
        // With an indent, a line's end follows the comma, not a space.
        if style.indent != nil { style.itemSeparator = "," }
        if let separators = arguments[2], !separators.isNone {
            guard case .list(let list) = separators, list.items.count == 2, case .string(let item) = list.items[0],
                case .string(let key) = list.items[1]
            else { throw TextError("tojson: separators are two strings") }
            (style.itemSeparator, style.keySeparator) = (item, key)
        }
        var writer = JinjaWriter(budget)
        try writer.json(value, style)
        return writer.text.foreign(if: isForeign)
    }
}
