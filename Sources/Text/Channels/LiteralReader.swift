/// Reads what is written in the literals of a language, as JSON text: values that are no literals are refused.
struct LiteralReader {
    enum Dialect {
        /// Python's: `'x'`, `True`, `None`, `{'k': 1}` and, since models mix them, JSON's words.
        case python
        /// Gemma's: strings between `<|"|>`, keys without quotes.
        case gemma
    }

    private static let deepest = 64
    private static let gemmaQuote = Array("<|\"|>".utf8)

    let bytes: [UInt8]
    let dialect: Dialect
    private(set) var at = 0

    init(_ bytes: some Sequence<UInt8>, _ dialect: Dialect) {
        self.bytes = Array(bytes)
        self.dialect = dialect
    }

    /// A text that is one value and nothing more.
    static func whole(_ text: String, _ dialect: Dialect) -> String? {
        var reader = LiteralReader(text.utf8, dialect)
        guard let value = reader.value(), reader.isAtEnd() else { return nil }
        return value
    }

    mutating func skipSpace() {
        while at < bytes.count, bytes[at].isSpace { at += 1 }
    }

    mutating func isAtEnd() -> Bool {
        skipSpace()
        return at == bytes.count
    }

    /// Takes a byte, behind white space.
    mutating func take(_ byte: Unicode.Scalar) -> Bool {
        skipSpace()
        guard at < bytes.count, bytes[at] == UInt8(ascii: byte) else { return false }
        at += 1
        return true
    }

    /// A word: a name, a key, a number.
    mutating func word() -> String {
        skipSpace()
        let start = at
        while at < bytes.count, !"\"'()[]{}<>,:= \t\r\n".utf8.contains(bytes[at]) { at += 1 }
        return String(decoding: bytes[start..<at], as: UTF8.self)
    }

    mutating func value(_ depth: Int = 0) -> String? {
        guard depth < Self.deepest else { return nil }
        skipSpace()
        guard at < bytes.count else { return nil }
        switch bytes[at] {
        case UInt8(ascii: "["): return list(depth)
        case UInt8(ascii: "{"): return object(depth)
        case UInt8(ascii: "\""), UInt8(ascii: "'"), UInt8(ascii: "<"): return string().map { JSONText.quoted($0) }
        default: return plain(word())
        }
    }

    /// `name=value` or `name:value`, several, up to `end`.
    mutating func members(until end: Unicode.Scalar, separator: Unicode.Scalar, _ depth: Int = 0) -> String? {
        var parts: [String] = []
        while !take(end) {
            guard parts.isEmpty || take(",") else { return nil }
            // A comma may stand before the end.
            if !parts.isEmpty, take(end) { break }
            guard let key = key(), take(separator), let value = value(depth + 1) else { return nil }
            parts.append("\(JSONText.quoted(key)): \(value)")
        }
        return "{" + parts.joined(separator: ", ") + "}"
    }

    private mutating func key() -> String? {
        skipSpace()
        guard at < bytes.count else { return nil }
        if "\"'<".utf8.contains(bytes[at]) { return string() }
        let word = word()
        return word.isEmpty ? nil : word
    }

    private mutating func object(_ depth: Int) -> String? {
        at += 1
        return members(until: "}", separator: ":", depth)
    }

    private mutating func list(_ depth: Int) -> String? {
        at += 1
        var items: [String] = []
        while !take("]") {
            guard items.isEmpty || take(",") else { return nil }
            if !items.isEmpty, take("]") { break }
            guard let item = value(depth + 1) else { return nil }
            items.append(item)
        }
        return "[" + items.joined(separator: ", ") + "]"
    }

    private func plain(_ word: String) -> String? {
        switch word {
        case "True", "true": return "true"
        case "False", "false": return "false"
        case "None", "null": return "null"
        default:
            switch try? JSONValue(parsing: word) {
            case .int?, .double?: return word
            default: return nil
            }
        }
    }

    private mutating func string() -> String? {
        if dialect == .gemma, bytes[at...].starts(with: Self.gemmaQuote) {
            let start = at + Self.gemmaQuote.count
            guard let end = TextSearch(Self.gemmaQuote).first(in: bytes, from: start) else { return nil }
            at = end.upperBound
            return String(decoding: bytes[start..<end.lowerBound], as: UTF8.self)
        }
        let quote = bytes[at]
        guard quote != UInt8(ascii: "<") else { return nil }
        at += 1
        var out: [UInt8] = []
        while at < bytes.count {
            let byte = bytes[at]
            at += 1
            if byte == quote { return String(decoding: out, as: UTF8.self) }
            if byte == UInt8(ascii: "\\") { escape(into: &out) } else { out.append(byte) }
        }
        return nil
    }

    /// Python keeps the backslash of an escape that it does not know.
    private mutating func escape(into out: inout [UInt8]) {
        guard at < bytes.count else { return }
        let byte = bytes[at]
        at += 1
        switch byte {
        case UInt8(ascii: "n"): out.append(0x0a)
        case UInt8(ascii: "t"): out.append(0x09)
        case UInt8(ascii: "r"): out.append(0x0d)
        case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""): out.append(byte)
        case UInt8(ascii: "x"): hex(2, into: &out, byte)
        case UInt8(ascii: "u"): hex(4, into: &out, byte)
        case UInt8(ascii: "U"): hex(8, into: &out, byte)
        default: out += [UInt8(ascii: "\\"), byte]
        }
    }

    private mutating func hex(_ count: Int, into out: inout [UInt8], _ letter: UInt8) {
        let digits = bytes[at...].prefix(count)
        guard digits.count == count, let code = UInt32(String(decoding: digits, as: UTF8.self), radix: 16),
            let scalar = Unicode.Scalar(code)
        else {
            out += [UInt8(ascii: "\\"), letter]
            return
        }
        at += count
        out.append(contentsOf: String(scalar).utf8)
    }
}
