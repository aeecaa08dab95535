import OrderedCollections

/// A value while a template runs, with Python's notions of truth, text and equality.
enum JinjaValue {
    case undefined(String)
    case none
    case bool(Bool)
    case int(Int)
    case float(Double)
    case string(String)
    case list([JinjaValue])
    case dict(OrderedDictionary<String, JinjaValue>)
    case namespace(Namespace)

    final class Namespace {
        var members: OrderedDictionary<String, JinjaValue>
        init(_ members: OrderedDictionary<String, JinjaValue>) { self.members = members }
    }

    init(_ json: JSONValue) {
        switch json {
        case .null: self = .none
        case .bool(let b): self = .bool(b)
        case .int(let i): self = .int(i)
        case .double(let d): self = .float(d)
        case .string(let s): self = .string(s)
        case .array(let items): self = .list(items.map(JinjaValue.init))
        case .object(let members): self = .dict(members.mapValues(JinjaValue.init))
        }
    }

    var isTrue: Bool {
        switch self {
        case .undefined, .none: false
        case .bool(let b): b
        case .int(let i): i != 0
        case .float(let d): d != 0
        case .string(let s): !s.isEmpty
        case .list(let items): !items.isEmpty
        case .dict(let members): !members.isEmpty
        case .namespace: true
        }
    }

    var typeName: String {
        switch self {
        case .undefined: "undefined"
        case .none: "none"
        case .bool: "boolean"
        case .int: "integer"
        case .float: "float"
        case .string: "string"
        case .list: "list"
        case .dict: "dictionary"
        case .namespace: "namespace"
        }
    }

    /// `str(value)`.
    var text: String {
        switch self {
        case .undefined: ""
        case .string(let s): s
        default: repr
        }
    }

    /// `repr(value)`.
    private var repr: String {
        switch self {
        case .undefined: "Undefined"
        case .none: "None"
        case .bool(let b): b ? "True" : "False"
        case .int(let i): String(i)
        case .float(let d): String(d)
        case .string(let s):
            "'" + s.replacingAll("\\", "\\\\").replacingAll("'", "\\'").replacingAll("\n", "\\n") + "'"
        case .list(let items): "[" + items.map(\.repr).joined(separator: ", ") + "]"
        case .dict(let members):
            "{" + members.map { "\(JinjaValue.string($0.key).repr): \($0.value.repr)" }.joined(separator: ", ") + "}"
        case .namespace: "<Namespace>"
        }
    }

    /// `json.dumps(value, ensure_ascii=False, indent=indent)`, as transformers' `tojson`.
    func json(indent: Int? = nil, level: Int = 0) throws -> String {
        switch self {
        case .undefined(let name): throw TextError("tojson: \(name) is undefined")
        case .namespace: throw TextError("tojson: a namespace is not JSON")
        case .none: return "null"
        case .bool(let b): return b ? "true" : "false"
        case .int, .float: return text
        case .string(let s): return Self.quoted(s)
        case .list(let items):
            return Self.bracketed(
                "[", "]", try items.map { try $0.json(indent: indent, level: level + 1) }, indent, level)
        case .dict(let members):
            let pairs = try members.map {
                "\(Self.quoted($0.key)): \(try $0.value.json(indent: indent, level: level + 1))"
            }
            return Self.bracketed("{", "}", pairs, indent, level)
        }
    }

    private static func bracketed(_ open: String, _ close: String, _ items: [String], _ indent: Int?, _ level: Int)
        -> String
    {
        guard let indent, !items.isEmpty else { return open + items.joined(separator: ", ") + close }
        let inner = "\n" + String(repeating: " ", count: indent * (level + 1))
        return open + inner + items.joined(separator: "," + inner) + "\n"
            + String(repeating: " ", count: indent * level) + close
    }

    private static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            case "\u{08}": out += "\\b"
            case "\u{0c}": out += "\\f"
            default:
                if scalar.value < 0x20 {
                    let hex = String(scalar.value, radix: 16)
                    out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        return out + "\""
    }

    static func equal(_ a: JinjaValue, _ b: JinjaValue) -> Bool {
        switch (a, b) {
        case (.none, .none), (.undefined, .undefined): true
        case (.string(let x), .string(let y)): x.utf8.elementsEqual(y.utf8)
        case (.list(let x), .list(let y)): x.count == y.count && zip(x, y).allSatisfy(equal)
        case (.dict(let x), .dict(let y)):
            x.count == y.count && x.allSatisfy { key, value in y[key].map { equal(value, $0) } ?? false }
        case (.namespace(let x), .namespace(let y)): x === y
        default:
            if let x = a.number, let y = b.number { x == y } else { false }
        }
    }

    /// The value as a number, where Python would count with it.
    var number: Double? {
        switch self {
        case .bool(let b): b ? 1 : 0
        case .int(let i): Double(i)
        case .float(let d): d
        default: nil
        }
    }
}

extension String {
    func replacingAll(_ old: String, _ new: String) -> String {
        guard !old.isEmpty else { return self }
        var out = ""
        var rest = self[...]
        while let range = rest.firstRange(ofScalars: old) {
            out += rest[..<range.lowerBound]
            out += new
            rest = rest[range.upperBound...]
        }
        return out + rest
    }
}

extension Substring {
    /// Where `other` first stands, compared scalar by scalar as Python does.
    func firstRange(ofScalars other: String) -> Range<Index>? {
        let needle = Array(other.utf8)
        let hay = utf8
        guard !needle.isEmpty else { return startIndex..<startIndex }
        var at = hay.startIndex
        while at < hay.endIndex {
            if hay[at] == needle[0], hay[at...].starts(with: needle) {
                return at..<hay.index(at, offsetBy: needle.count)
            }
            at = hay.index(after: at)
        }
        return nil
    }
}
