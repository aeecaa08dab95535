/// JSON as models write it, taken apart without being written anew: numbers keep their digits.
enum JSONText {
    /// A string in quotes (RFC 8259, section 7).
    static func quoted(_ text: some StringProtocol) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            case "\u{0}"..<" ":
                let hex = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }

    /// Whether a text is an object, whole.
    static func isObject(_ text: String) -> Bool {
        if case .object? = try? JSONValue(parsing: text) { true } else { false }
    }

    /// The members of an object as they are written; nil where it is none. The last of a name counts.
    static func members(_ text: String) -> [String: String]? {
        guard isObject(text) else { return nil }
        var members: [String: String] = [:]
        var key: String?
        for part in parts(Array(text.utf8)) {
            if let name = key {
                members[name] = part
                key = nil
            } else {
                // What is a key was checked with the whole.
                key = (try? JSONValue(parsing: part))?.string
            }
        }
        return members
    }

    /// Keys and values of a valid object, in turn.
    private static func parts(_ bytes: [UInt8]) -> [String] {
        var parts: [String] = []
        var (depth, start) = (0, 0)
        var (isQuoted, isEscaped) = (false, false)
        for (at, byte) in bytes.enumerated() {
            if isQuoted {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    isQuoted = false
                }
                continue
            }
            var isEnd = depth == 1 && (byte == UInt8(ascii: ",") || byte == UInt8(ascii: ":"))
            switch byte {
            case UInt8(ascii: "\""): isQuoted = true
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                if depth == 1 { start = at + 1 }
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                isEnd = depth == 0
            default: break
            }
            if isEnd {
                parts.append(String(decoding: bytes[start..<at], as: UTF8.self))
                start = at + 1
            }
        }
        return parts
    }
}
