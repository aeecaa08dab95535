/// How a place is to be filled.
struct JinjaFormatSpec {
    var fill = " "
    /// `<`, `>`, `^`, or `=` for zeros behind the sign.
    var alignment: Character?
    var sign = ""
    var isAlternate = false
    var width = 0
    var grouping: Character?
    var precision: Int?
    /// Digits of an integer at least: what `%` takes a precision for.
    var digits = 0
    /// The type's letter; a space where there is none.
    var form: Character = " "

    var isSigned: Bool { !sign.isEmpty || grouping != nil }
}

/// What `%` fills in.
struct JinjaPercentArguments {
    private var items: [JinjaValue]
    private let members: JinjaMembers?
    private var at = 0
    /// Whether Python could look for keys in it: then nothing need be taken.
    private let hasKeys: Bool

    init(_ value: JinjaValue) {
        hasKeys =
            switch value {
            case .dict, .undefined: true
            case .list(let list): list.kind == .list || list.kind == .range
            default: false
            }
        if case .list(let list) = value, list.isTuple { items = list.items } else { items = [value] }
        if case .dict(let dict) = value { members = dict.members } else { members = nil }
    }

    mutating func take(_ key: String?) throws -> JinjaValue {
        if let key {
            guard let found = members?[JinjaKey(TemplateText(key))] else { throw TextError("% finds no \"\(key)\"") }
            at = items.count
            return found
        }
        guard at < items.count else { throw TextError("% needs more values") }
        at += 1
        return items[at - 1]
    }

    /// A width or precision of `*`.
    mutating func integer() throws -> Int {
        guard let value = try take(nil).integer else { throw TextError("% takes an integer for *") }
        return value
    }

    func finish() throws {
        guard at >= items.count || hasKeys else { throw TextError("% has more values than places") }
    }
}

/// Reads specifications.
struct JinjaFormatScanner {
    private let bytes: [UInt8]
    private var at: Int

    init(_ bytes: [UInt8], _ at: Int) {
        self.bytes = bytes
        self.at = at
    }

    private var next: Character? { at < bytes.count ? Character(Unicode.Scalar(bytes[at])) : nil }

    private mutating func take(_ characters: String) -> Character? {
        guard let next, characters.contains(next) else { return nil }
        at += 1
        return next
    }

    private mutating func integer() throws -> Int? {
        let start = at
        while take("0123456789") != nil {}
        guard start < at else { return nil }
        guard at - start < 9, let value = Int(String(decoding: bytes[start..<at], as: UTF8.self)) else {
            throw TextError("the chat template formats with too large a number")
        }
        return value
    }

    /// What stands behind a `%`.
    mutating func percent(
        _ arguments: inout JinjaPercentArguments
    ) throws -> (key: String?, spec: JinjaFormatSpec, end: Int) {
        var spec = JinjaFormatSpec()
        var key: String?
        if take("(") != nil {
            let start = at
            while let next, next != ")" { at += 1 }
            key = String(decoding: bytes[start..<at], as: UTF8.self)
            guard take(")") != nil else { throw TextError("% with a name that is not closed") }
        }
        while let flag = take("#0- +") {
            switch flag {
            case "#": spec.isAlternate = true
            case "0": if spec.alignment == nil { (spec.fill, spec.alignment) = ("0", "=") }
            case "-": (spec.fill, spec.alignment) = (" ", "<")
            case "+": spec.sign = "+"
            default: if spec.sign.isEmpty { spec.sign = " " }
            }
        }
        spec.width = take("*") != nil ? try arguments.integer() : try integer() ?? 0
        spec.width = min(max(spec.width, -1 << 30), 1 << 30)
        if spec.width < 0 { (spec.width, spec.fill, spec.alignment) = (-spec.width, " ", "<") }
        if take(".") != nil { spec.precision = take("*") != nil ? max(0, try arguments.integer()) : try integer() ?? 0 }
        _ = take("hlL")
        guard let form = take("diouxXeEfFgGcrsa%") else { throw TextError("% with an unknown type") }
        spec.form = form
        if ["s", "r", "a", "c"].contains(form), spec.fill == "0" { (spec.fill, spec.alignment) = (" ", ">") }
        return (key, spec, at)
    }

    /// A specification of `format`.
    mutating func braces() throws -> JinjaFormatSpec {
        var spec = JinjaFormatSpec()
        let text = Array(String(decoding: bytes, as: UTF8.self).unicodeScalars)
        var hasFill = false
        if text.count > 1, "<>^=".unicodeScalars.contains(text[1]) {
            spec.fill = String(text[0])
            spec.alignment = Character(text[1])
            at = UTF8.width(text[0]) + 1
            hasFill = true
        } else if let alignment = take("<>^=") {
            spec.alignment = alignment
        }
        if let sign = take("+- "), sign != "-" { spec.sign = String(sign) }
        _ = take("z")
        spec.isAlternate = take("#") != nil
        if take("0") != nil, !hasFill { (spec.fill, spec.alignment) = ("0", spec.alignment ?? "=") }
        spec.width = try integer() ?? 0
        spec.grouping = take(",_")
        if take(".") != nil { spec.precision = try integer() }
        if let form = take("bcdeEfFgGnosxX%") { spec.form = form }
        guard at == bytes.count else { throw TextError("format() with an unknown specification") }
        return spec
    }
}
