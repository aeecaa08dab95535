import OrderedCollections

typealias JinjaMembers = OrderedDictionary<String, JinjaValue>

/// A value while a template runs, with Python's notions of truth, text and equality. ``JinjaBudget`` makes lists and
/// dictionaries, so that they nest to a bounded depth: what walks them may recurse.
enum JinjaValue {
    case undefined(String)
    case none
    case bool(Bool)
    case int(Int)
    case float(Double)
    case string(String)
    case list(JinjaList)
    case dict(JinjaDict)
    case namespace(Namespace)

    /// Its members hold no namespace, and no other value does: none can come to hold itself.
    final class Namespace {
        var members: JinjaMembers
        init(_ members: JinjaMembers) { self.members = members }
    }

    var isTrue: Bool {
        switch self {
        case .undefined, .none: false
        case .bool(let b): b
        case .int(let i): i != 0
        case .float(let d): d != 0
        case .string(let s): !s.isEmpty
        case .list(let list): !list.items.isEmpty
        case .dict(let dict): !dict.members.isEmpty
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
    func text(_ budget: JinjaBudget) throws -> String {
        switch self {
        case .undefined: return ""
        case .string(let s): return s
        default:
            var writer = JinjaWriter(budget)
            try writer.repr(self)
            return writer.text
        }
    }

    /// `json.dumps(value, ensure_ascii=False, indent=indent)`, as transformers' `tojson`.
    func json(indent: Int? = nil, _ budget: JinjaBudget) throws -> String {
        var writer = JinjaWriter(budget)
        try writer.json(self, indent: indent, level: 0)
        return writer.text
    }

    static func equal(_ a: JinjaValue, _ b: JinjaValue, _ budget: JinjaBudget) throws -> Bool {
        try budget.spend(8)
        switch (a, b) {
        case (.none, .none), (.undefined, .undefined): return true
        case (.string(let x), .string(let y)):
            guard x.utf8.count == y.utf8.count else { return false }
            try budget.spend(x.utf8.count)
            return x.utf8.elementsEqual(y.utf8)
        case (.list(let x), .list(let y)):
            guard x.items.count == y.items.count else { return false }
            return try zip(x.items, y.items).allSatisfy { try equal($0, $1, budget) }
        case (.dict(let x), .dict(let y)):
            guard x.members.count == y.members.count else { return false }
            return try x.members.allSatisfy { key, value in
                try y.members[key].map { try equal(value, $0, budget) } ?? false
            }
        case (.namespace(let x), .namespace(let y)): return x === y
        case (.int(let x), .int(let y)): return x == y
        default:
            if let x = a.number, let y = b.number { return x == y }
            return false
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

struct JinjaList {
    let items: [JinjaValue]
    /// How deep lists and dictionaries lie in each other, this one included.
    let depth: Int
}

struct JinjaDict {
    let members: JinjaMembers
    let depth: Int
}

/// Writes values as Python and JSON do, within the budget.
struct JinjaWriter {
    private let budget: JinjaBudget
    private(set) var text = ""

    init(_ budget: JinjaBudget) { self.budget = budget }

    private mutating func write(_ piece: String) throws {
        try budget.text(piece.utf8.count)
        guard text.utf8.count + piece.utf8.count <= JinjaBudget.textLimit else {
            throw TextError("the chat template writes too much text")
        }
        text += piece
    }

    /// `repr(value)`.
    mutating func repr(_ value: JinjaValue) throws {
        try budget.spend(8)
        switch value {
        case .undefined: try write("Undefined")
        case .none: try write("None")
        case .bool(let b): try write(b ? "True" : "False")
        case .int(let i): try write(String(i))
        case .float(let d): try write(String(d))
        case .string(let s): try quoted(s)
        case .list(let list):
            try bracketed("[", "]", list.items, indent: nil, level: 0) { writer, item in try writer.repr(item) }
        case .dict(let dict):
            try bracketed("{", "}", dict.members.elements, indent: nil, level: 0) { writer, member in
                try writer.quoted(member.key)
                try writer.write(": ")
                try writer.repr(member.value)
            }
        case .namespace: try write("<Namespace>")
        }
    }

    private mutating func quoted(_ text: String) throws {
        try budget.text(text.utf8.count * 2 + 2)
        // Python takes double quotes where they save an escape.
        let quote = text.utf8.contains(0x27) && !text.utf8.contains(0x22) ? "\"" : "'"
        var out = quote
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": out += "\\\\"
            case "'" where quote == "'": out += "\\'"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            default: out.unicodeScalars.append(scalar)
            }
        }
        try write(out + quote)
    }

    mutating func json(_ value: JinjaValue, indent: Int?, level: Int) throws {
        try budget.spend(8)
        switch value {
        case .undefined(let name): throw TextError("tojson: \(name) is undefined")
        case .namespace: throw TextError("tojson: a namespace is not JSON")
        case .none: try write("null")
        case .bool(let b): try write(b ? "true" : "false")
        case .int(let i): try write(String(i))
        case .float(let d): try write(String(d))
        case .string(let s): try jsonQuoted(s)
        case .list(let list):
            try bracketed("[", "]", list.items, indent: indent, level: level) { writer, item in
                try writer.json(item, indent: indent, level: level + 1)
            }
        case .dict(let dict):
            try bracketed("{", "}", dict.members.elements, indent: indent, level: level) { writer, member in
                try writer.jsonQuoted(member.key)
                try writer.write(": ")
                try writer.json(member.value, indent: indent, level: level + 1)
            }
        }
    }

    private mutating func bracketed<Items: Collection>(
        _ open: String, _ close: String, _ items: Items, indent: Int?, level: Int,
        _ element: (inout JinjaWriter, Items.Element) throws -> Void
    ) throws {
        func line(_ level: Int) -> String {
            guard let indent, !items.isEmpty else { return "" }
            return "\n" + String(repeating: " ", count: indent * level)
        }
        let separator = indent == nil ? ", " : "," + line(level + 1)
        try write(open + line(level + 1))
        var isFirst = true
        for item in items {
            if !isFirst { try write(separator) }
            isFirst = false
            try element(&self, item)
        }
        try write(line(level) + close)
    }

    private mutating func jsonQuoted(_ text: String) throws {
        try budget.text(text.utf8.count * 2 + 2)
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
        try write(out + "\"")
    }
}
