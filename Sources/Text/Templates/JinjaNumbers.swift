import Glibc

/// Numbers as Python reads and writes them.
enum JinjaNumbers {
    /// `repr(float)`: the shortest digits that give the number again, with an exponent from 1e16 on and below 1e-4.
    static func text(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
        var (digits, exponent) = decimal(value.magnitude)
        let sign = value.sign == .minus ? "-" : ""
        if digits.isEmpty { return sign + "0.0" }
        // The point stands behind `exponent` digits.
        if exponent > 16 || exponent < -3 {
            let power = exponent - 1
            let fraction = digits.count > 1 ? "." + digits.dropFirst() : ""
            let size = String(power.magnitude)
            return sign + digits.prefix(1) + fraction + "e" + (power < 0 ? "-" : "+") + (size.count < 2 ? "0" : "")
                + size
        }
        if exponent <= 0 { return sign + "0." + String(repeating: "0", count: -exponent) + digits }
        if digits.count < exponent { digits += String(repeating: "0", count: exponent - digits.count) }
        let fraction = digits.dropFirst(exponent)
        return sign + digits.prefix(exponent) + "." + (fraction.isEmpty ? "0" : fraction)
    }

    /// The shortest decimal digits of a number, none for 0, and how many stand before the point.
    private static func decimal(_ value: Double) -> (digits: String, exponent: Int) {
        let parts = value.description.split(separator: "e")
        let number = parts.first ?? ""
        let whole = number.prefix { $0 != "." }
        let fraction = number.dropFirst(whole.count + 1)
        let exponent = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
        let all = whole + fraction
        let zeros = all.prefix { $0 == "0" }.count
        var digits = String(all.dropFirst(zeros))
        while digits.last == "0" { digits.removeLast() }
        return (digits, exponent + whole.count - zeros)
    }

    /// C's `printf` of a float.
    /// - Parameter form: `f`, `e`, `g` or their capitals.
    static func formatted(_ value: Double, precision: Int, form: Character, alternate: Bool = false) -> String {
        guard value.isFinite else {
            let word = value.isNaN ? "nan" : "inf"
            return (value < 0 ? "-" : "") + (form.isUppercase ? word.uppercased() : word)
        }
        // A finite number has up to 309 digits before its point.
        var buffer = [CChar](repeating: 0, count: 400 + max(0, precision))
        let count = withVaList([Int32(clamping: precision), value]) {
            vsnprintf(&buffer, buffer.count, alternate ? "%#.*\(form)" : "%.*\(form)", $0)
        }
        return String(decoding: buffer.prefix(Int(max(0, count))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// `round(value, digits)`: half to even, of the exact binary value.
    static func round(_ value: Double, digits: Int) -> Double {
        guard value.isFinite else { return value }
        if digits > 308 { return value }
        if digits >= 0 { return Double(formatted(value, precision: digits, form: "f")) ?? value }
        guard digits > -309 else { return 0 }
        let power = pow(10, Double(-digits))
        return (value / power).rounded(.toNearestOrEven) * power
    }

    /// `int(text, base)`: nil where it is no integer, or none of 64 bits.
    static func int(_ text: String, radix: Int = 10) -> Int? {
        var digits = JinjaStrings.strip(TemplateText(text), nil, left: true, right: true).string
        var isNegative = false
        if let sign = digits.first, sign == "-" || sign == "+" {
            isNegative = sign == "-"
            digits.removeFirst()
        }
        var radix = radix
        for (mark, base) in [("0x", 16), ("0o", 8), ("0b", 2)] where digits.lowercased().hasPrefix(mark) {
            guard radix == base || radix == 0 else { break }
            radix = base
            digits = String(digits.dropFirst(2))
            if digits.first == "_" { digits.removeFirst() }
        }
        if radix == 0 { radix = 10 }
        guard let plain = withoutUnderscores(digits), (2...36).contains(radix), plain.first != "-", plain.first != "+"
        else { return nil }
        return Int((isNegative ? "-" : "") + plain, radix: radix)
    }

    /// `float(text)`.
    static func float(_ text: String) -> Double? {
        let trimmed = JinjaStrings.strip(TemplateText(text), nil, left: true, right: true).string.lowercased()
        let unsigned = trimmed.drop { $0 == "-" || $0 == "+" }
        if ["inf", "infinity", "nan"].contains(unsigned) {
            guard trimmed.count - unsigned.count <= 1 else { return nil }
            return unsigned == "nan" ? .nan : trimmed.first == "-" ? -.infinity : .infinity
        }
        guard let plain = withoutUnderscores(trimmed), plain.allSatisfy({ "0123456789+-.e".contains($0) }) else {
            return nil
        }
        return Double(plain) ?? (plain.hasSuffix(".") ? Double(plain.dropLast()) : nil)
            ?? (unsigned.hasPrefix(".") ? Double(plain.replacing(".", with: "0.", maxReplacements: 1)) : nil)
    }

    /// Digits without single underscores between them; nil where underscores stand elsewhere.
    private static func withoutUnderscores(_ text: String) -> String? {
        guard !text.hasPrefix("_"), !text.hasSuffix("_"), !text.contains("__") else { return nil }
        return text.filter { $0 != "_" }
    }
}
