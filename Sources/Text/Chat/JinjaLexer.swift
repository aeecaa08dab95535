/// Cuts a template into text, output tags and statement tags, with the whitespace rules of
/// `trim_blocks` and `lstrip_blocks` (https://jinja.palletsprojects.com/en/stable/templates/#whitespace-control).
struct JinjaLexer {
    enum Token: Equatable {
        case name(String), string(String), int(Int), float(Double), symbol(String)
    }

    enum Part {
        case text(String)
        case output([Token], line: Int)
        case statement([Token], line: Int)
    }

    /// A tag of many tokens could make a tree too deep to walk.
    private static let tokenLimit = 1000

    /// Bytes of a template at most; those of real models are below 32 KiB.
    private static let sourceLimit = 1 << 20

    private let source: [Unicode.Scalar]
    private var at = 0
    private var line = 1
    /// Up to here newlines have been counted.
    private var counted = 0
    private var parts: [Part] = []

    static func parts(of template: String) throws -> [Part] {
        guard template.utf8.count <= sourceLimit else {
            throw TextError("the chat template is longer than \(sourceLimit >> 10) KiB")
        }
        var scalars = withNewlines(template)
        if scalars.last == "\n" { scalars.removeLast() }  // keep_trailing_newline is off
        var lexer = JinjaLexer(source: scalars)
        try lexer.run()
        return lexer.parts
    }

    /// Every end of a line, `\r\n`, `\r` or `\n`, is a newline, as Jinja reads them.
    private static func withNewlines(_ template: String) -> [Unicode.Scalar] {
        var scalars: [Unicode.Scalar] = []
        var last: Unicode.Scalar?
        for scalar in template.unicodeScalars {
            if scalar == "\r" {
                scalars.append("\n")
            } else if scalar != "\n" || last != "\r" {
                scalars.append(scalar)
            }
            last = scalar
        }
        return scalars
    }

    private init(source: [Unicode.Scalar]) { self.source = source }

    private func peek(_ offset: Int = 0) -> Unicode.Scalar? { at + offset < source.count ? source[at + offset] : nil }

    private func matches(_ text: String, at place: Int) -> Bool {
        let scalars = text.unicodeScalars
        return place + scalars.count <= source.count && source[place..<place + scalars.count].elementsEqual(scalars)
    }

    private mutating func run() throws {
        var textStart = 0
        while at < source.count {
            guard source[at] == "{", let kind = peek(1), kind == "{" || kind == "%" || kind == "#" else {
                at += 1
                continue
            }
            addText(textStart, kind)
            line += source[counted..<at].count { $0 == "\n" }
            counted = at
            at += 2
            if peek() == "-" || peek() == "+" { at += 1 }
            switch kind {
            case "#": try comment()
            case "{": parts.append(.output(try tokens(until: "}}"), line: line))
            default:
                if try !raw() { parts.append(.statement(try tokens(until: "%}"), line: line)) }
            }
            textStart = at
        }
        if textStart < source.count { parts.append(.text(string(source[textStart...]))) }
    }

    private func string(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars)
        return String(view)
    }

    /// The text before a tag, stripped as the tag's opening says.
    private mutating func addText(_ start: Int, _ kind: Unicode.Scalar) {
        var text = source[start..<at]
        if peek(2) == "-" {
            while let last = text.last, last.properties.isWhitespace { text.removeLast() }
        } else if kind != "{", peek(2) != "+" {
            var stripped = text
            while let last = stripped.last, last == " " || last == "\t" { stripped.removeLast() }
            if stripped.isEmpty ? start == 0 || source[start - 1] == "\n" : stripped.last == "\n" { text = stripped }
        }
        if !text.isEmpty { parts.append(.text(string(text))) }
    }

    /// After a closing tag: `-` strips all space, a statement or comment takes one newline with it.
    private mutating func afterTag(strip: Bool, trimNewline: Bool) {
        if strip {
            while let next = peek(), next.properties.isWhitespace { at += 1 }
        } else if trimNewline, peek() == "\n" {
            at += 1
        }
    }

    private mutating func comment() throws {
        while at < source.count {
            if matches("#}", at: at) {
                let strip = source[at - 1] == "-"
                at += 2
                return afterTag(strip: strip, trimNewline: true)
            }
            at += 1
        }
        throw TextError("the chat template has a comment that is not closed (line \(line))")
    }

    /// `{% raw %} … {% endraw %}`: text as it is. The opening `{%` has been read.
    private mutating func raw() throws -> Bool {
        let saved = at
        let words = try? tokens(until: "%}")
        guard words == [.name("raw")] else {
            at = saved
            return false
        }
        let start = at
        while at < source.count {
            if matches("{%", at: at) {
                let end = at
                at += 2
                if peek() == "-" { at += 1 }
                if (try? tokens(until: "%}")) == [.name("endraw")] {
                    parts.append(.text(string(source[start..<end])))
                    return true
                }
                at = end
            }
            at += 1
        }
        throw TextError("the chat template has a raw block that is not closed (line \(line))")
    }

    private mutating func tokens(until close: String) throws -> [Token] {
        var found: [Token] = []
        while let next = peek() {
            if next == "-" || next == "+", matches(close, at: at + 1) {
                at += 3
                afterTag(strip: next == "-", trimNewline: false)
                return found
            }
            // A dictionary's closing braces may touch the tag's: the tag ends where no brace is open.
            if matches(close, at: at), close == "%}" || openBraces(found) == 0 {
                at += 2
                afterTag(strip: false, trimNewline: close == "%}")
                return found
            }
            if next.properties.isWhitespace { at += 1 } else { found.append(try token(next)) }
            guard found.count <= Self.tokenLimit else {
                throw TextError("the chat template has a tag of more than \(Self.tokenLimit) parts (line \(line))")
            }
        }
        throw TextError("the chat template has a tag that is not closed (line \(line))")
    }

    private func openBraces(_ tokens: [Token]) -> Int {
        tokens.reduce(0) { $0 + ($1 == .symbol("{") ? 1 : $1 == .symbol("}") ? -1 : 0) }
    }

    private mutating func token(_ first: Unicode.Scalar) throws -> Token {
        if first == "'" || first == "\"" { return .string(try quoted(first)) }
        if first.properties.numericType != nil, first.isASCII { return try number() }
        if first == "_" || first.properties.isAlphabetic {
            let start = at
            while let next = peek(), next == "_" || next.properties.isAlphabetic || next.properties.numericType != nil {
                at += 1
            }
            return .name(string(source[start..<at]))
        }
        for symbol in ["==", "!=", "<=", ">=", "//", "**"] where matches(symbol, at: at) {
            at += 2
            return .symbol(symbol)
        }
        guard "+-*/%~|.,:()[]{}=<>".unicodeScalars.contains(first) else {
            throw TextError("the chat template has an unexpected \(String(first).debugDescription) (line \(line))")
        }
        at += 1
        return .symbol(String(first))
    }

    private mutating func number() throws -> Token {
        let start = at
        func digits() { while let next = peek(), ("0"..."9").contains(next) || next == "_" { at += 1 } }
        digits()
        if peek() == ".", let next = peek(1), ("0"..."9").contains(next) {
            at += 1
            digits()
            if let float = Double(string(source[start..<at]).filter { $0 != "_" }) { return .float(float) }
        } else if let int = Int(string(source[start..<at]).filter { $0 != "_" }) {
            return .int(int)
        }
        throw TextError("the chat template has a number out of range (line \(line))")
    }

    /// The hexadecimal number of a character.
    private mutating func character(digits: Int) throws -> Unicode.Scalar {
        guard at + digits <= source.count,
            let value = UInt32(string(source[at..<at + digits]), radix: 16), let scalar = Unicode.Scalar(value)
        else { throw TextError("the chat template has a string with a wrong escape (line \(line))") }
        at += digits
        return scalar
    }

    private mutating func quoted(_ quote: Unicode.Scalar) throws -> String {
        at += 1
        var out = String.UnicodeScalarView()
        while let next = peek() {
            at += 1
            if next == quote { return String(out) }
            guard next == "\\", let escaped = peek() else {
                out.append(next)
                continue
            }
            at += 1
            switch escaped {
            case "n": out.append("\n")
            case "t": out.append("\t")
            case "r": out.append("\r")
            case "b": out.append("\u{08}")
            case "f": out.append("\u{0c}")
            case "\\", "'", "\"": out.append(escaped)
            case "x": out.append(try character(digits: 2))
            case "u": out.append(try character(digits: 4))
            case "U": out.append(try character(digits: 8))
            default:
                out.append("\\")
                out.append(escaped)
            }
        }
        throw TextError("the chat template has a string that is not closed (line \(line))")
    }
}
