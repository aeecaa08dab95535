/// The filter `pprint`: values as Python's `pprint` lays them out, in lines of 80 characters where they can be, and
/// dictionaries in the order of their keys.
struct JinjaPrettyPrinter {
    private static let width = 80

    private let budget: JinjaBudget
    private var writer: JinjaWriter

    static func text(_ value: JinjaValue, _ budget: JinjaBudget) throws -> TemplateText {
        var printer = JinjaPrettyPrinter(budget: budget, writer: JinjaWriter(budget, sortsKeys: true))
        try printer.print(value, indent: 0, behind: 0, isOutermost: true)
        return printer.writer.text
    }

    /// - Parameter behind: how many characters follow in the value's last line.
    private mutating func print(_ value: JinjaValue, indent: Int, behind: Int, isOutermost: Bool = false) throws {
        guard try !JinjaWriter.fits(value, Self.width - indent - behind, budget) else { return try writer.repr(value) }
        switch value {
        case .string(let text) where !text.isMarkup && !text.isEmpty:
            try print(text, indent: indent + (isOutermost ? 1 : 0), behind: behind + (isOutermost ? 1 : 0), isOutermost)
        case .list(let list) where list.kind == .list:
            try bracketed("[", "]", list.items, indent, behind) { printer, item, behind in
                try printer.print(item, indent: indent + 1, behind: behind)
            }
        case .list(let list) where list.kind == .tuple:
            try bracketed("(", list.items.count == 1 ? ",)" : ")", list.items, indent, behind) {
                printer, item, behind in
                try printer.print(item, indent: indent + 1, behind: behind)
            }
        case .dict(let dict):
            try bracketed("{", "}", try writer.ordered(dict.members), indent, behind) { printer, member, behind in
                let start = printer.writer.text.count
                try printer.writer.repr(member.key.value)
                try printer.writer.write(": ")
                let key = printer.writer.text.slice(start..<printer.writer.text.count)
                try printer.print(member.value, indent: indent + 1 + JinjaStrings.length(key), behind: behind)
            }
        default: try writer.repr(value)
        }
    }

    private mutating func bracketed<Items: Collection>(
        _ open: String, _ close: String, _ items: Items, _ indent: Int, _ behind: Int,
        _ element: (inout JinjaPrettyPrinter, Items.Element, _ behind: Int) throws -> Void
    ) throws {
        try writer.write(TemplateText(open))
        for (index, item) in items.enumerated() {
            if index > 0 { try newLine(",", indent + 1) }
            try element(&self, item, index == items.count - 1 ? behind + close.utf8.count : 1)
        }
        try writer.write(TemplateText(close))
    }

    private mutating func newLine(_ before: String, _ indent: Int) throws {
        try budget.spend(indent)
        try writer.write(TemplateText(before + "\n" + String(repeating: " ", count: indent)))
    }

    // MARK: Long texts

    /// A text in several literals, one a line.
    private mutating func print(_ text: TemplateText, indent: Int, behind: Int, _ isOutermost: Bool) throws {
        try budget.text(text)
        try budget.spend(8 * text.count)
        let lines = try JinjaStringSearch.lines(text, keepsEnds: true, budget)
        let room = Self.width - indent
        var literals: [TemplateText] = []
        for (index, item) in lines.enumerated() {
            guard case .string(let line) = item else { continue }
            literals += try Self.literals(line, room, last: index == lines.count - 1 ? room - behind : room, budget)
        }
        let isBracketed = isOutermost && literals.count > 1
        if isBracketed { try writer.write("(") }
        for (index, literal) in literals.enumerated() {
            if index > 0 { try newLine("", indent) }
            try writer.repr(.string(literal))
        }
        if isBracketed { try writer.write(")") }
    }

    /// As many words as have room in each, whole ones with the space behind them.
    /// - Parameter last: the room of the last word.
    private static func literals(
        _ line: TemplateText, _ room: Int, last: Int, _ budget: JinjaBudget
    ) throws -> [TemplateText] {
        var whole = LiteralWidth()
        for scalar in line.string.unicodeScalars { whole.add(scalar) }
        guard whole.count > last else { return [line] }
        var found: [TemplateText] = []
        var (start, end) = (0, 0)
        var current = LiteralWidth()
        for word in words(line) {
            var longer = current
            for scalar in line.slice(word).string.unicodeScalars { longer.add(scalar) }
            if longer.count > (word.upperBound == line.count ? last : room), start < end {
                try budget.elements(1)
                found.append(line.slice(start..<end))
                start = end
                longer = LiteralWidth()
                for scalar in line.slice(word).string.unicodeScalars { longer.add(scalar) }
            }
            current = longer
            end = word.upperBound
        }
        return found + [line.slice(start..<end)]
    }

    private static func words(_ line: TemplateText) -> [Range<Int>] {
        var found: [Range<Int>] = []
        var (start, at, wasSpace) = (0, 0, false)
        for scalar in line.string.unicodeScalars {
            if wasSpace, !scalar.isPythonSpace {
                found.append(start..<at)
                start = at
            }
            wasSpace = scalar.isPythonSpace
            at += UTF8.width(scalar)
        }
        return found + [start..<at]
    }

    /// How many characters `repr` makes of a text that grows.
    private struct LiteralWidth {
        private var others = 2
        private var single = 0
        private var double = 0

        mutating func add(_ scalar: Unicode.Scalar) {
            switch scalar {
            case "'": single += 1
            case "\"": double += 1
            default: others += JinjaWriter.escaped(scalar, quote: "'").unicodeScalars.count
            }
        }

        /// A text with single quotes alone stands in double ones.
        var count: Int { others + double + (double == 0 ? single : 2 * single) }
    }
}
