/// Texts with places to fill in: `'%s' % x` and `'{}'.format(x)`.
struct JinjaFormat {
    let budget: JinjaBudget

    init(_ budget: JinjaBudget) { self.budget = budget }

    private func add(_ piece: TemplateText, to out: inout TemplateText) throws {
        try budget.text(piece)
        guard out.cost + piece.cost <= JinjaBudget.textLimit else {
            throw TextError("the chat template writes too much text")
        }
        out.append(piece)
    }

    // MARK: Percent

    /// `text % value`.
    func percent(_ text: TemplateText, _ value: JinjaValue) throws -> TemplateText {
        var arguments = JinjaPercentArguments(value)
        let bytes = Array(text.string.utf8)
        var out = TemplateText()
        var (start, at) = (0, 0)
        while at < bytes.count {
            guard bytes[at] == UInt8(ascii: "%") else {
                at += 1
                continue
            }
            try add(text.slice(start..<at), to: &out)
            at += 1
            var scanner = JinjaFormatScanner(bytes, at)
            var place = try scanner.percent(&arguments)
            at = place.end
            start = at
            if place.spec.form == "%" {
                try add("%", to: &out)
                continue
            }
            let value = try arguments.take(place.key)
            var filled = try percent(&place.spec, value)
            if text.isMarkup { filled = filled.escaped }
            try add(filled, to: &out)
        }
        try add(text.slice(start..<bytes.count), to: &out)
        try arguments.finish()
        out.isMarkup = text.isMarkup
        return out
    }

    private func percent(_ spec: inout JinjaFormatSpec, _ value: JinjaValue) throws -> TemplateText {
        if spec.alignment == nil { spec.alignment = ">" }
        switch spec.form {
        case "s": return try string(try value.text(budget), spec)
        case "r", "a":
            return try string(try literal(value, isASCII: spec.form == "a"), spec)
        case "c":
            spec.form = "s"
            if case .string(let text) = value, JinjaStrings.length(text) == 1 { return try string(text, spec) }
            guard let code = value.integer, let scalar = UInt32(exactly: code).flatMap(Unicode.Scalar.init) else {
                throw TextError("%c takes a character")
            }
            // Where a number came from is not known.
            return try string(TemplateText(foreign: String(scalar)), spec)
        case "d", "i", "u":
            guard let number = value.integer ?? value.number.flatMap({ Int(exactly: $0.rounded(.towardZero)) }) else {
                throw TextError("%d takes a number, not a \(value.typeName)")
            }
            spec.form = "d"
            return try integer(number, spec)
        default:
            if ["x", "X", "o"].contains(spec.form), value.integer == nil {
                throw TextError("%\(spec.form) takes an integer, not a \(value.typeName)")
            }
            if let number = value.integer, ["x", "X", "o"].contains(spec.form) { return try integer(number, spec) }
            guard value.number != nil else { throw TextError("%\(spec.form) takes a number, not a \(value.typeName)") }
            return try number(value, spec)
        }
    }

    private func integer(_ value: Int, _ spec: JinjaFormatSpec) throws -> TemplateText {
        var spec = spec
        spec.digits = spec.precision ?? 0
        spec.precision = nil
        try budget.text(spec.digits)
        return try number(.int(value), spec)
    }

    /// `repr(value)` or `ascii(value)`.
    private func literal(_ value: JinjaValue, isASCII: Bool) throws -> TemplateText {
        var writer = JinjaWriter(budget)
        try writer.repr(value)
        guard isASCII else { return writer.text }
        try budget.text(5 * writer.text.cost)
        return writer.text.mapScalars { $0.isASCII ? String($0) : JinjaWriter.escape($0) }
    }

    // MARK: Braces

    /// `text.format(…)`.
    func braces(_ text: TemplateText, _ call: JinjaCall) throws -> TemplateText {
        var next: Int? = 0
        // Who writes the format writes what it fills up with.
        return try braces(text, call, &next, level: 0).foreign(if: text.isForeign)
    }

    private func braces(_ text: TemplateText, _ call: JinjaCall, _ next: inout Int?, level: Int) throws -> TemplateText
    {
        guard level < 2 else { throw TextError("format() nests its places too deeply") }
        let bytes = Array(text.string.utf8)
        var out = TemplateText()
        var (start, at) = (0, 0)
        while at < bytes.count {
            let byte = bytes[at]
            guard byte == UInt8(ascii: "{") || byte == UInt8(ascii: "}") else {
                at += 1
                continue
            }
            try add(text.slice(start..<at), to: &out)
            if at + 1 < bytes.count, bytes[at + 1] == byte {
                try add(text.slice(at..<at + 1), to: &out)
                at += 2
            } else {
                guard byte == UInt8(ascii: "{"), let end = Self.end(bytes, at) else {
                    throw TextError("format() with a single bracket")
                }
                var filled = try field(text, bytes, at + 1..<end, call, &next, level)
                if text.isMarkup { filled = filled.escaped }
                try add(filled, to: &out)
                at = end + 1
            }
            start = at
        }
        try add(text.slice(start..<bytes.count), to: &out)
        out.isMarkup = text.isMarkup
        return out
    }

    /// Where the bracket at `start` closes.
    private static func end(_ bytes: [UInt8], _ start: Int) -> Int? {
        var open = 0
        for at in start..<bytes.count {
            if bytes[at] == UInt8(ascii: "{") { open += 1 }
            if bytes[at] == UInt8(ascii: "}") { open -= 1 }
            if open == 0 { return at }
        }
        return nil
    }

    /// `name!conversion:specification`.
    private func field(
        _ text: TemplateText, _ bytes: [UInt8], _ range: Range<Int>, _ call: JinjaCall, _ next: inout Int?,
        _ level: Int
    ) throws -> TemplateText {
        let colon = range.first { bytes[$0] == UInt8(ascii: ":") }
        let mark = (range.lowerBound..<(colon ?? range.upperBound)).first { bytes[$0] == UInt8(ascii: "!") }
        let name = text.slice(range.lowerBound..<(mark ?? colon ?? range.upperBound)).string
        var value = try self.value(name, call, &next)
        if let mark {
            let conversion = text.slice(mark + 1..<(colon ?? range.upperBound)).string
            guard ["s", "r", "a"].contains(conversion) else { throw TextError("format() converts by !\(conversion)") }
            value = .string(
                conversion == "s" ? try value.text(budget) : try literal(value, isASCII: conversion == "a"))
        }
        guard let colon else { return try value.text(budget) }
        let form = try braces(text.slice(colon + 1..<range.upperBound), call, &next, level: level + 1)
        return try formatted(value, form.string).foreign(if: form.isForeign || form.string.hasSuffix("c"))
    }

    private func value(_ name: String, _ call: JinjaCall, _ next: inout Int?) throws -> JinjaValue {
        let first = String(name.prefix { $0 != "." && $0 != "[" })
        var value: JinjaValue
        if let index = first.isEmpty ? next : Int(first) {
            if first.isEmpty { next = index + 1 } else if next == 0 { next = nil }
            guard call.positional.indices.contains(index) else { throw TextError("format() needs more arguments") }
            value = call.positional[index]
        } else if let found = call.named.first(where: { $0.name == first }) {
            value = found.value
        } else {
            throw TextError("format() has no argument \"\(first)\"")
        }
        let access = JinjaAccess(budget)
        var rest = name.dropFirst(first.count)
        while let mark = rest.first {
            rest.removeFirst()
            if mark == "." {
                let member = rest.prefix { $0 != "." && $0 != "[" }
                rest = rest.dropFirst(member.count)
                value = try access.attribute(value, String(member))
            } else {
                let index = rest.prefix { $0 != "]" }
                rest = rest.dropFirst(index.count + 1)
                value = try access.element(value, Int(index).map(JinjaValue.int) ?? .text(String(index)))
            }
            if case .undefined(let why) = value { throw TextError("format(): \(why)") }
        }
        return value
    }

    /// `format(value, specification)`.
    private func formatted(_ value: JinjaValue, _ text: String) throws -> TemplateText {
        guard !text.isEmpty else { return try value.text(budget) }
        var scanner = JinjaFormatScanner(Array(text.utf8), 0)
        let spec = try scanner.braces()
        switch value {
        case .string(let text):
            guard spec.form == "s" || spec.form == " ", !spec.isSigned, !spec.isAlternate else {
                throw TextError("format() takes a number for \"\(spec.form)\"")
            }
            return try string(text, spec)
        case .int, .float, .bool: return try number(value, spec)
        default: throw TextError("format() takes no specification for a \(value.typeName)")
        }
    }

    // MARK: Values

    private func string(_ text: TemplateText, _ spec: JinjaFormatSpec) throws -> TemplateText {
        var text = text
        if let most = spec.precision {
            let bytes = text.string.unicodeScalars.prefix(most).reduce(0) { $0 + UTF8.width($1) }
            text = text.slice(0..<bytes)
        }
        let alignment = spec.alignment ?? "<"
        return try JinjaStrings.padded(
            text, to: spec.width, TemplateText(spec.fill), alignment == "=" ? "<" : alignment, budget)
    }

    private func number(_ value: JinjaValue, _ spec: JinjaFormatSpec) throws -> TemplateText {
        guard Self.fits(spec) else { throw TextError("format() takes less for \"\(spec.form)\"") }
        var digits: String
        if let int = value.integer, ["d", "b", "o", "x", "X", "c", "n", " "].contains(spec.form) {
            guard spec.precision == nil else { throw TextError("format() takes no precision for an integer") }
            digits = Self.integer(int, spec)
        } else if let number = value.number, ["e", "E", "f", "F", "g", "G", "%", " ", "n"].contains(spec.form) {
            digits = Self.float(number, spec)
        } else {
            throw TextError("format() takes no \"\(spec.form)\" for a \(value.typeName)")
        }
        let sign = digits.hasPrefix("-") ? "-" : spec.sign
        if digits.hasPrefix("-") { digits.removeFirst() }
        if let separator = spec.grouping { digits = Self.grouped(digits, separator, spec.form) }
        let missing = spec.width - sign.count - digits.count
        guard missing > 0 else { return TemplateText(sign + digits) }
        try budget.text(4 * missing)
        if (spec.alignment ?? ">") == "=" {
            return TemplateText(sign + String(repeating: spec.fill, count: missing) + digits)
        }
        return try JinjaStrings.padded(
            TemplateText(sign + digits), to: spec.width, TemplateText(spec.fill), spec.alignment ?? ">", budget)
    }

    /// Whether a type takes what else is said: not all may have a sign, or be grouped by all marks.
    private static func fits(_ spec: JinjaFormatSpec) -> Bool {
        switch spec.form {
        case "c": spec.sign.isEmpty && spec.grouping == nil && !spec.isAlternate
        case "n": spec.grouping == nil
        case "b", "o", "x", "X": spec.grouping != ","
        default: true
        }
    }

    private static func integer(_ value: Int, _ spec: JinjaFormatSpec) -> String {
        let sign = value < 0 ? "-" : ""
        func digits(_ prefix: String, _ radix: Int) -> String {
            let digits = String(value.magnitude, radix: radix, uppercase: spec.form == "X")
            let zeros = String(repeating: "0", count: max(0, spec.digits - digits.count))
            return sign + (spec.isAlternate ? prefix : "") + zeros + digits
        }
        switch spec.form {
        case "b": return digits("0b", 2)
        case "o": return digits("0o", 8)
        case "x": return digits("0x", 16)
        case "X": return digits("0X", 16)
        case "c": return UInt32(exactly: value).flatMap(Unicode.Scalar.init).map { String($0) } ?? ""
        default: return digits("", 10)
        }
    }

    private static func float(_ value: Double, _ spec: JinjaFormatSpec) -> String {
        let precision = min(spec.precision ?? 6, 1000)
        switch spec.form {
        case "%": return JinjaNumbers.formatted(value * 100, precision: precision, form: "f") + "%"
        case " ":
            guard spec.precision != nil else { return JinjaNumbers.text(value) }
            let text = JinjaNumbers.formatted(value, precision: precision, form: "g")
            return text.contains(where: { ".en".contains($0) }) ? text : text + ".0"
        case let form:
            return JinjaNumbers.formatted(
                value, precision: precision, form: form == "n" ? "g" : form, alternate: spec.isAlternate)
        }
    }

    /// Thousands apart.
    private static func grouped(_ digits: String, _ separator: Character, _ form: Character) -> String {
        let whole = digits.prefix { $0.isHexDigit && $0 != "e" }
        let size = ["b", "o", "x", "X"].contains(form) ? 4 : 3
        var out = ""
        for (place, digit) in whole.enumerated() {
            if place > 0, (whole.count - place) % size == 0 { out.append(separator) }
            out.append(digit)
        }
        return out + digits.dropFirst(whole.count)
    }
}
