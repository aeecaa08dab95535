/// What JSON is read into: values of a kind whose objects keep their members in a way of their own.
public protocol JSONTree {
    associatedtype Object: JSONObjectTree where Object.Value == Self
    static var null: Self { get }
    static func bool(_ flag: Bool) -> Self
    static func int(_ number: Int) -> Self
    static func double(_ number: Double) -> Self
    static func string(_ text: String) -> Self
    static func array(_ items: [Self]) -> Self
    static func object(_ members: Object) -> Self
}

/// The members of an object on their way.
public protocol JSONObjectTree {
    associatedtype Value
    init()
    /// - Returns: false where the key is there already; the new value takes the place of the old one.
    mutating func add(_ key: String, _ value: Value) -> Bool
}

/// Reads JSON (RFC 8259) within bounds. A number without fraction and exponent that fits is an integer.
public struct JSONReader<Tree: JSONTree> {
    private let bytes: [UInt8]
    private let uniqueKeys: Bool
    private let depthLimit: Int
    private let valueLimit: Int
    private var at = 0
    private var values = 0

    /// - Parameters:
    ///   - uniqueKeys: an object that says something twice is an error; otherwise the last counts, as RFC 8259 leaves it open.
    ///   - valueLimit: values in a document at most.
    /// - Throws: ``FormatError`` that says where the text stops being JSON, or which bound it goes beyond.
    public static func read(
        _ bytes: [UInt8], uniqueKeys: Bool, depthLimit: Int, valueLimit: Int = .max
    ) throws(FormatError) -> Tree {
        var reader = JSONReader(bytes, uniqueKeys, depthLimit, valueLimit)
        let value = try reader.value(depth: 0)
        reader.skipSpace()
        guard reader.at == bytes.count else { throw reader.wrong("nothing more was expected") }
        return value
    }

    private init(_ bytes: [UInt8], _ uniqueKeys: Bool, _ depthLimit: Int, _ valueLimit: Int) {
        self.bytes = bytes
        (self.uniqueKeys, self.depthLimit, self.valueLimit) = (uniqueKeys, depthLimit, valueLimit)
    }

    private func wrong(_ why: String) -> FormatError { FormatError("not valid JSON at byte \(at): \(why)") }

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

    private mutating func value(depth: Int) throws(FormatError) -> Tree {
        guard depth < depthLimit else { throw wrong("nested too deeply") }
        values += 1
        guard values <= valueLimit else { throw wrong("there are more than \(valueLimit) values") }
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

    private mutating func object(_ depth: Int) throws(FormatError) -> Tree {
        at += 1
        var object = Tree.Object()
        skipSpace()
        if take("}") { return .object(object) }
        while true {
            skipSpace()
            guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else { throw wrong("a key was expected") }
            let key = try string()
            skipSpace()
            guard take(":") else { throw wrong("':' was expected") }
            let place = at
            if !object.add(key, try value(depth: depth + 1)), uniqueKeys {
                at = place
                throw wrong("\(key.prefix(64).debugDescription) is said a second time")
            }
            skipSpace()
            if take("}") { return .object(object) }
            guard take(",") else { throw wrong("',' or '}' was expected") }
        }
    }

    private mutating func array(_ depth: Int) throws(FormatError) -> Tree {
        at += 1
        var items: [Tree] = []
        skipSpace()
        if take("]") { return .array(items) }
        while true {
            items.append(try value(depth: depth + 1))
            skipSpace()
            if take("]") { return .array(items) }
            guard take(",") else { throw wrong("',' or ']' was expected") }
        }
    }

    private mutating func number() throws(FormatError) -> Tree {
        let start = at
        while at < bytes.count, Self.isOfNumber(bytes[at]) { at += 1 }
        let text = String(decoding: bytes[start..<at], as: UTF8.self)
        // Swift's numbers may begin with "+", "." or zeros, JSON's not.
        let digits = text.utf8.first == UInt8(ascii: "-") ? text.dropFirst() : text[...]
        let (first, second) = (digits.utf8.first, digits.utf8.dropFirst().first)
        func isDigit(_ byte: UInt8?) -> Bool { byte.map { (0x30...0x39).contains($0) } ?? false }
        let isNumber = isDigit(first) && (first != UInt8(ascii: "0") || !isDigit(second))
        if isNumber, let int = Int(text) { return .int(int) }
        guard isNumber, let double = Double(text), double.isFinite else {
            at = start
            throw wrong("a value was expected")
        }
        return .double(double)
    }

    private static func isOfNumber(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: "e"), UInt8(ascii: "E"):
            true
        default: false
        }
    }

    private mutating func string() throws(FormatError) -> String {
        at += 1
        var out: [UInt8] = []
        while at < bytes.count {
            let start = at
            while at < bytes.count, bytes[at] >= 0x20, bytes[at] != UInt8(ascii: "\""), bytes[at] != UInt8(ascii: "\\")
            {
                at += 1
            }
            out += bytes[start..<at]
            guard at < bytes.count else { break }
            let byte = bytes[at]
            at += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let text = String(validating: out, as: UTF8.self) else { throw wrong("a string is not UTF-8") }
                return text
            case UInt8(ascii: "\\"): try escape(into: &out)
            default: throw wrong("a control character stands in a string")
            }
        }
        throw wrong("a string is not closed")
    }

    private mutating func escape(into out: inout [UInt8]) throws(FormatError) {
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

    private mutating func hex4() throws(FormatError) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard at < bytes.count, let digit = Character(Unicode.Scalar(bytes[at])).hexDigitValue else {
                throw wrong("four hexadecimal digits were expected")
            }
            code = code << 4 | UInt32(digit)
            at += 1
        }
        return code
    }
}
