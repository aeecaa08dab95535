import OrderedCollections

/// JSON whose objects keep the order of their keys, as templates print them.
public enum JSONValue: Sendable, Hashable {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case string(String)
    case array([JSONValue])
    case object(OrderedDictionary<String, JSONValue>)

    /// - Parameter uniqueKeys: an object that says something twice is an error; otherwise the last counts, as RFC 8259
    ///   leaves it open.
    /// - Throws: ``TextError`` that says where the text stops being JSON (RFC 8259), or that it nests too deeply.
    public init(parsing text: String, uniqueKeys: Bool = false) throws {
        var parser = JSONParser(Array(text.utf8), uniqueKeys)
        self = try parser.document()
    }

    public subscript(key: String) -> JSONValue? {
        if case .object(let members) = self { return members[key] }
        return nil
    }

    public var string: String? {
        if case .string(let text) = self { return text }
        return nil
    }
}

private struct JSONParser {
    /// Values in a document: a small one takes up to 200 bytes of memory for each of its own seven.
    private static let valueLimit = 1 << 17

    private let bytes: [UInt8]
    private let uniqueKeys: Bool
    private var at = 0
    private var values = 0

    init(_ bytes: [UInt8], _ uniqueKeys: Bool) {
        self.bytes = bytes
        self.uniqueKeys = uniqueKeys
    }

    mutating func document() throws -> JSONValue {
        let value = try value(depth: 0)
        skipSpace()
        guard at == bytes.count else { throw wrong("nothing more was expected") }
        return value
    }

    private func wrong(_ why: String) -> TextError { TextError("not valid JSON at byte \(at): \(why)") }

    private mutating func skipSpace() {
        while at < bytes.count, bytes[at] == 0x20 || bytes[at] == 0x0a || bytes[at] == 0x0d || bytes[at] == 0x09 {
            at += 1
        }
    }

    private mutating func take(_ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard at + count <= bytes.count,
            UnsafeBufferPointer(start: word.utf8Start, count: count).elementsEqual(bytes[at..<at + count])
        else { return false }
        at += count
        return true
    }

    private mutating func value(depth: Int) throws -> JSONValue {
        guard depth < 128 else { throw wrong("nested too deeply") }
        values += 1
        guard values <= Self.valueLimit else { throw wrong("there are more than \(Self.valueLimit) values") }
        skipSpace()
        guard at < bytes.count else { throw wrong("it ends too early") }
        switch bytes[at] {
        case UInt8(ascii: "{"): return try object(depth)
        case UInt8(ascii: "["): return try array(depth)
        case UInt8(ascii: "\""): return .string(try string())
        default:
            if take("true") { return .bool(true) }
            if take("false") { return .bool(false) }
            if take("null") { return .null }
            return try number()
        }
    }

    private mutating func object(_ depth: Int) throws -> JSONValue {
        at += 1
        var members: OrderedDictionary<String, JSONValue> = [:]
        skipSpace()
        if take("}") { return .object(members) }
        while true {
            skipSpace()
            guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else { throw wrong("a key was expected") }
            let key = try string()
            skipSpace()
            guard take(":") else { throw wrong("':' was expected") }
            if uniqueKeys, members[key] != nil { throw wrong("\"\(key.prefix(64))\" is said a second time") }
            members[key] = try value(depth: depth + 1)
            skipSpace()
            if take("}") { return .object(members) }
            guard take(",") else { throw wrong("',' or '}' was expected") }
        }
    }

    private mutating func array(_ depth: Int) throws -> JSONValue {
        at += 1
        var items: [JSONValue] = []
        skipSpace()
        if take("]") { return .array(items) }
        while true {
            items.append(try value(depth: depth + 1))
            skipSpace()
            if take("]") { return .array(items) }
            guard take(",") else { throw wrong("',' or ']' was expected") }
        }
    }

    private mutating func number() throws -> JSONValue {
        let start = at
        while at < bytes.count, "+-0123456789.eE".utf8.contains(bytes[at]) { at += 1 }
        let text = String(decoding: bytes[start..<at], as: UTF8.self)
        // Swift's numbers may begin with "+", "." or zeros, JSON's not.
        let digits = text.drop { $0 == "-" }
        let isNumber =
            digits.first?.isNumber == true && (digits.first != "0" || digits.dropFirst().first?.isNumber != true)
        if isNumber, let int = Int(text) { return .int(int) }
        guard isNumber, let double = Double(text), double.isFinite else {
            at = start
            throw wrong("a value was expected")
        }
        return .double(double)
    }

    private mutating func string() throws -> String {
        at += 1
        var out: [UInt8] = []
        while at < bytes.count {
            let byte = bytes[at]
            at += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let text = String(validating: out, as: UTF8.self) else { throw wrong("a string is not UTF-8") }
                return text
            case UInt8(ascii: "\\"): try escape(into: &out)
            case 0..<0x20: throw wrong("a control character stands in a string")
            default: out.append(byte)
            }
        }
        throw wrong("a string is not closed")
    }

    private mutating func escape(into out: inout [UInt8]) throws {
        guard at < bytes.count else { throw wrong("a string is not closed") }
        let byte = bytes[at]
        at += 1
        switch byte {
        case UInt8(ascii: "n"): out.append(0x0a)
        case UInt8(ascii: "t"): out.append(0x09)
        case UInt8(ascii: "r"): out.append(0x0d)
        case UInt8(ascii: "b"): out.append(0x08)
        case UInt8(ascii: "f"): out.append(0x0c)
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(byte)
        case UInt8(ascii: "u"):
            var code = try hex4()
            if (0xd800..<0xdc00).contains(code) {
                let low = take("\\u") ? try hex4() : 0
                guard (0xdc00..<0xe000).contains(low) else { throw wrong("a surrogate stands alone") }
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw wrong("a surrogate stands alone") }
            out.append(contentsOf: String(scalar).utf8)
        default: throw wrong("an unknown escape")
        }
    }

    private mutating func hex4() throws -> UInt32 {
        guard at + 4 <= bytes.count, bytes[at] != UInt8(ascii: "+"), bytes[at] != UInt8(ascii: "-"),
            let code = UInt32(String(decoding: bytes[at..<at + 4], as: UTF8.self), radix: 16)
        else {
            throw wrong("four hexadecimal digits were expected")
        }
        at += 4
        return code
    }
}
