/// Writes values as Python and JSON do, within the budget.
struct JinjaWriter {
    /// What `tojson` may be told.
    struct JSONStyle {
        var indent: String?
        var itemSeparator: TemplateText = ", "
        var keySeparator: TemplateText = ": "
        var isASCII = false
        var sortsKeys = false
    }

    private let budget: JinjaBudget
    private(set) var text = TemplateText()
    /// Whether `repr` takes dictionaries in the order of their keys, as `pprint` does.
    private var sortsKeys: Bool
    /// Characters that may still be written.
    private var room: Int?

    init(_ budget: JinjaBudget, sortsKeys: Bool = false) {
        self.budget = budget
        self.sortsKeys = sortsKeys
    }

    private struct Full: Error {}

    /// Whether `repr(value)` has so many characters at most: it is written no further than that.
    static func fits(_ value: JinjaValue, _ width: Int, _ budget: JinjaBudget) throws -> Bool {
        var writer = JinjaWriter(budget)
        writer.room = width
        do {
            try writer.repr(value)
            return true
        } catch is Full {
            return false
        }
    }

    mutating func write(_ piece: TemplateText) throws {
        if let left = room {
            let length = JinjaStrings.length(piece)
            guard length <= left else { throw Full() }
            room = left - length
        }
        try budget.text(piece)
        guard text.cost + piece.cost <= JinjaBudget.textLimit else {
            throw TextError("the chat template writes too much text")
        }
        text.append(piece)
    }

    private mutating func write(_ piece: String) throws { try write(TemplateText(piece)) }

    // MARK: Python

    /// `repr(value)`.
    mutating func repr(_ value: JinjaValue) throws {
        try budget.spend(8)
        switch value {
        case .undefined: try write("Undefined")
        case .none: try write("None")
        case .bool(let b): try write(b ? "True" : "False")
        case .int(let i): try write(String(i))
        case .float(let d): try write(JinjaNumbers.text(d))
        case .string(let s): try quoted(s)
        case .list(let list): try self.list(list)
        case .dict(let dict):
            if sortsKeys {
                try separated("{", "}", try ordered(dict.members)) { try $0.member($1.key, $1.value) }
            } else {
                try separated("{", "}", dict.members.elements) { try $0.member($1.key, $1.value) }
            }
        case .namespace: try write("<Namespace>")
        case .generator: try write("<generator>")
        case .loop(let loop): try write("<LoopContext \(loop.index + 1)/\(loop.items.count)>")
        case .macro(let macro): try write("<Macro '\(macro.definition.name)'>")
        case .joiner, .cycler, .method, .function: try write("<function>")
        }
    }

    private mutating func member(_ key: JinjaKey, _ value: JinjaValue) throws {
        try repr(key.value)
        try write(": ")
        try repr(value)
    }

    private mutating func list(_ list: JinjaList) throws {
        func items(_ open: String, _ close: String) throws {
            try separated(open, close, list.items) { writer, item in try writer.repr(item) }
        }
        // `pprint` leaves views and groups, whose `repr` is their own, and what is in them.
        let saved = sortsKeys
        defer { sortsKeys = saved }
        sortsKeys = saved && (list.kind == .list || list.kind == .tuple)
        switch list.kind {
        case .list: try items("[", "]")
        case .tuple, .group: try items("(", list.items.count == 1 ? ",)" : ")")
        case .keys: try items("dict_keys([", "])")
        case .values: try items("dict_values([", "])")
        case .items: try items("dict_items([", "])")
        case .range:
            var bounds = [0, 0, 1]
            if let first = list.items.first?.integer, let last = list.items.last?.integer {
                let step = list.items.count > 1 ? (last - first) / (list.items.count - 1) : 1
                bounds = [first, last + step, step]
            }
            try write("range(\(bounds[0]), \(bounds[1])" + (bounds[2] == 1 ? ")" : ", \(bounds[2]))"))
        }
    }

    private mutating func separated<Items: Collection>(
        _ open: String, _ close: String, _ items: Items,
        _ element: (inout JinjaWriter, Items.Element) throws -> Void
    ) throws {
        try write(open)
        var isFirst = true
        for item in items {
            if !isFirst { try write(", ") }
            isFirst = false
            try element(&self, item)
        }
        try write(close)
    }

    /// The members of a dictionary in the order of their keys.
    func ordered(_ members: JinjaMembers) throws -> [(key: JinjaKey, value: JinjaValue)] {
        try budget.elements(members.count)
        return try JinjaOrder(budget).sortedByType(members.elements.map { $0 }) { $0.key.value }
    }

    private mutating func quoted(_ text: TemplateText) throws {
        // A character has four bytes at most, and `repr` makes it no shorter.
        if let room, text.count > 4 * max(0, room) { throw Full() }
        try budget.text(text.cost * 2 + 2)
        // Python takes double quotes where they save an escape.
        let quote: Unicode.Scalar = text.string.utf8.contains(0x27) && !text.string.utf8.contains(0x22) ? "\"" : "'"
        var out = TemplateText(String(quote))
        text.forEachScalar { scalar, isForeign in
            out.append(Self.escaped(scalar, quote: quote), foreign: isForeign)
        }
        out.append(String(quote))
        if text.isMarkup { out = "Markup(" + out + ")" }
        try write(out)
    }

    static func escaped(_ scalar: Unicode.Scalar, quote: Unicode.Scalar) -> String {
        switch scalar {
        case "\\": "\\\\"
        case quote: "\\" + String(quote)
        case "\n": "\\n"
        case "\r": "\\r"
        case "\t": "\\t"
        default:
            scalar.isPrintable ? String(scalar) : escape(scalar)
        }
    }

    /// A character by its number.
    static func escape(_ scalar: Unicode.Scalar) -> String {
        if scalar.value < 0x100 { return "\\x" + hex(scalar.value, 2) }
        return scalar.value < 0x10000 ? "\\u" + hex(scalar.value, 4) : "\\U" + hex(scalar.value, 8)
    }

    private static func hex(_ value: UInt32, _ width: Int) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }

    // MARK: JSON

    /// `json.dumps(value, …)`.
    mutating func json(_ value: JinjaValue, _ style: JSONStyle, level: Int = 0) throws {
        try budget.spend(8)
        switch value {
        case .none: try write("null")
        case .bool(let b): try write(b ? "true" : "false")
        case .int(let i): try write(String(i))
        case .float(let d): try write(Self.json(d))
        case .string(let s): try jsonQuoted(s, style)
        case .list(let list) where list.kind == .list || list.isTuple:
            try bracketed("[", "]", list.items, style, level) { writer, item in
                try writer.json(item, style, level: level + 1)
            }
        case .dict(let dict):
            var members = dict.members.elements.map { $0 }
            if style.sortsKeys {
                try budget.elements(members.count)
                members = try JinjaOrder(budget).sorted(members) { $0.key.value }
            }
            try bracketed("{", "}", members, style, level) { writer, member in
                try writer.jsonQuoted(try Self.key(member.key), style)
                try writer.write(style.keySeparator)
                try writer.json(member.value, style, level: level + 1)
            }
        default: throw TextError("tojson: a \(value.typeName) is not JSON")
        }
    }

    private static func json(_ value: Double) -> String {
        value.isFinite ? JinjaNumbers.text(value) : value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity"
    }

    private static func key(_ key: JinjaKey) throws -> TemplateText {
        switch key.value {
        case .string(let text): text
        case .none: "null"
        case .bool(let b): b ? "true" : "false"
        case .int(let i): TemplateText(String(i))
        case .float(let d): TemplateText(json(d))
        default: throw TextError("tojson: a \(key.value.typeName) is no key")
        }
    }

    private mutating func bracketed<Items: Collection>(
        _ open: String, _ close: String, _ items: Items, _ style: JSONStyle, _ level: Int,
        _ element: (inout JinjaWriter, Items.Element) throws -> Void
    ) throws {
        func line(_ level: Int) throws -> TemplateText {
            guard let indent = style.indent, !items.isEmpty else { return "" }
            try budget.text(indent.utf8.count * level)
            return TemplateText("\n" + String(repeating: indent, count: level))
        }
        let separator = style.itemSeparator + (try line(level + 1))
        try write(TemplateText(open) + (try line(level + 1)))
        var isFirst = true
        for item in items {
            if !isFirst { try write(separator) }
            isFirst = false
            try element(&self, item)
        }
        try write(try line(level) + TemplateText(close))
    }

    private mutating func jsonQuoted(_ text: TemplateText, _ style: JSONStyle) throws {
        try budget.text(text.cost * 2 + 2)
        var out: TemplateText = "\""
        text.forEachScalar { scalar, isForeign in
            out.append(Self.jsonEscaped(scalar, style.isASCII), foreign: isForeign)
        }
        out.append("\"")
        try write(out)
    }

    private static func jsonEscaped(_ scalar: Unicode.Scalar, _ isASCII: Bool) -> String {
        switch scalar {
        case "\"": "\\\""
        case "\\": "\\\\"
        case "\n": "\\n"
        case "\r": "\\r"
        case "\t": "\\t"
        case "\u{08}": "\\b"
        case "\u{0c}": "\\f"
        default:
            if scalar.value < 0x20 || isASCII && scalar.value > 0x7e {
                UTF16.encode(scalar)?.map { "\\u" + hex(UInt32($0), 4) }.joined() ?? ""
            } else {
                String(scalar)
            }
        }
    }
}

extension Unicode.Scalar {
    /// `str.isprintable()`.
    var isPrintable: Bool {
        switch properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
        case .spaceSeparator: self == " "
        default: true
        }
    }
}
