/// A word, a literal or a sign in a tag, and its line.
struct JinjaToken {
    enum Kind: Equatable {
        case name(String), string(String), int(Int), float(Double), symbol(String)
    }

    let kind: Kind
    let line: Int
}

/// Reads the tokens of a tag.
struct JinjaTokenScanner {
    /// A tag of many tokens could make a tree too deep to walk.
    private static let tokenLimit = 1000

    let source: [Unicode.Scalar]
    var at = 0
    /// Up to here newlines have been counted, and how many lines there were.
    private var counted = (place: 0, line: 1)

    init(_ source: [Unicode.Scalar]) { self.source = source }

    var line: Int {
        mutating get {
            guard at > counted.place else { return counted.line }
            counted = (at, counted.line + source[counted.place..<at].count { $0 == "\n" })
            return counted.line
        }
    }

    func peek(_ offset: Int = 0) -> Unicode.Scalar? { at + offset < source.count ? source[at + offset] : nil }

    func matches(_ text: String, after offset: Int = 0) -> Bool {
        var place = at + offset
        for scalar in text.unicodeScalars {
            guard place < source.count, source[place] == scalar else { return false }
            place += 1
        }
        return true
    }

    func string(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars)
        return String(view)
    }

    mutating func skipSpace() { while let next = peek(), next.isPythonSpace { at += 1 } }

    /// After a closing tag: `-` strips all space, a statement or comment takes one newline with it.
    mutating func afterTag(strips: Bool, trimsNewline: Bool) {
        if strips {
            skipSpace()
        } else if trimsNewline, peek() == "\n" {
            at += 1
        }
    }

    private mutating func wrong(_ why: String) -> TextError {
        TextError("the chat template cannot be used: \(why) (line \(line))")
    }

    mutating func tokens(until close: String) throws -> [JinjaToken] {
        var found: [JinjaToken] = []
        // A dictionary's closing braces may touch the tag's: the tag ends where no bracket is open.
        var open = 0
        let isStatement = close == "%}"
        let start = line
        while let next = peek() {
            if open == 0, next == "-" || next == "+" && isStatement, matches(close, after: 1) {
                at += 3
                afterTag(strips: next == "-", trimsNewline: false)
                return found
            }
            if open == 0, matches(close) {
                at += 2
                afterTag(strips: false, trimsNewline: isStatement)
                return found
            }
            if next.isPythonSpace {
                at += 1
                continue
            }
            let token = try token(next, afterDot: found.last?.kind == .symbol("."))
            switch token.kind {
            case .symbol("("), .symbol("["), .symbol("{"): open += 1
            case .symbol(")"), .symbol("]"), .symbol("}"): open -= 1
            default: break
            }
            guard open >= 0 else { throw wrong("a bracket closes nothing") }
            found.append(token)
            guard found.count <= Self.tokenLimit else {
                throw wrong("a tag has more than \(Self.tokenLimit) parts")
            }
        }
        throw TextError("the chat template has a tag that is not closed (line \(start))")
    }

    private mutating func token(_ first: Unicode.Scalar, afterDot: Bool) throws -> JinjaToken {
        let line = line
        if first == "'" || first == "\"" { return JinjaToken(kind: .string(try quoted(first)), line: line) }
        if ("0"..."9").contains(first) { return JinjaToken(kind: try number(afterDot: afterDot), line: line) }
        if first == "_" || first.properties.isXIDStart {
            let start = at
            while let next = peek(), next.properties.isXIDContinue { at += 1 }
            return JinjaToken(kind: .name(string(source[start..<at])), line: line)
        }
        for symbol in ["==", "!=", "<=", ">=", "//", "**"] where matches(symbol) {
            at += 2
            return JinjaToken(kind: .symbol(symbol), line: line)
        }
        guard "+-*/%~|.,:()[]{}=<>".unicodeScalars.contains(first) else {
            throw wrong("unexpected \(String(first).debugDescription)")
        }
        at += 1
        return JinjaToken(kind: .symbol(String(first)), line: line)
    }

    // MARK: Numbers

    /// Digits of a base, with single underscores between them.
    private mutating func digits(_ radix: Int = 10) -> String {
        var found = ""
        while let next = peek() {
            if next == "_", !found.isEmpty, let digit = peek(1), Self.isDigit(digit, radix) {
                at += 1
            } else if Self.isDigit(next, radix) {
                found.unicodeScalars.append(next)
                at += 1
            } else {
                break
            }
        }
        return found
    }

    private static func isDigit(_ scalar: Unicode.Scalar, _ radix: Int) -> Bool {
        scalar.isASCII && Int(String(scalar), radix: radix) != nil
    }

    private mutating func number(afterDot: Bool) throws -> JinjaToken.Kind {
        for (mark, radix) in [("b", 2), ("o", 8), ("x", 16)] where peek() == "0" {
            guard let next = peek(1), String(next).lowercased() == mark,
                let digit = peek(peek(2) == "_" ? 3 : 2), Self.isDigit(digit, radix)
            else { continue }
            at += peek(2) == "_" ? 3 : 2
            guard let int = Int(digits(radix), radix: radix) else { throw wrong("a number is out of range") }
            return .int(int)
        }
        var text = digits()
        // `x.0.1` is two elements, not a fraction.
        guard !afterDot else { return try integer(text) }
        var isFloat = false
        if peek() == ".", let next = peek(1), Self.isDigit(next, 10) {
            isFloat = true
            at += 1
            text += "." + digits()
        }
        if peek() == "e" || peek() == "E" {
            let sign = peek(1) == "+" || peek(1) == "-" ? 1 : 0
            if let next = peek(1 + sign), Self.isDigit(next, 10) {
                isFloat = true
                text += sign == 1 && peek(1) == "-" ? "e-" : "e"
                at += 1 + sign
                text += digits()
            }
        }
        guard isFloat else { return try integer(text) }
        guard let float = Double(text) else { throw wrong("a number is out of range") }
        return .float(float)
    }

    private mutating func integer(_ text: String) throws -> JinjaToken.Kind {
        guard let int = Int(text) else { throw wrong("a number is out of range") }
        guard text.first != "0" || int == 0 else { throw wrong("a number begins with 0") }
        return .int(int)
    }

    // MARK: Strings

    private mutating func character(digits: Int) throws -> Unicode.Scalar {
        guard at + digits <= source.count, source[at..<at + digits].allSatisfy({ Self.isDigit($0, 16) }),
            let value = UInt32(string(source[at..<at + digits]), radix: 16), let scalar = Unicode.Scalar(value)
        else { throw wrong("a string has a wrong escape") }
        at += digits
        return scalar
    }

    /// `{NAME}`.
    private mutating func namedCharacter() throws -> Unicode.Scalar {
        let rest = source[at...].prefix(CharacterNames.longest + 2)
        guard rest.first == "{", let end = rest.firstIndex(of: "}"),
            let scalar = CharacterNames.character(string(rest[(at + 1)..<end]))
        else { throw wrong("a string names an unknown character") }
        at = end + 1
        return scalar
    }

    /// Up to three octal digits.
    private mutating func octal() -> Unicode.Scalar {
        var value: UInt32 = 0
        for _ in 0..<3 {
            guard let next = peek(), Self.isDigit(next, 8) else { break }
            value = value * 8 + (next.value - 0x30)
            at += 1
        }
        return Unicode.Scalar(value) ?? "\u{fffd}"
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
            if Self.isDigit(escaped, 8) {
                out.append(octal())
                continue
            }
            at += 1
            try escape(escaped, into: &out)
        }
        throw wrong("a string is not closed")
    }

    private mutating func escape(_ escaped: Unicode.Scalar, into out: inout String.UnicodeScalarView) throws {
        switch escaped {
        case "a": out.append("\u{07}")
        case "b": out.append("\u{08}")
        case "f": out.append("\u{0c}")
        case "n": out.append("\n")
        case "r": out.append("\r")
        case "t": out.append("\t")
        case "v": out.append("\u{0b}")
        case "\n": break  // the string goes on in the next line
        case "\\", "'", "\"": out.append(escaped)
        case "x": out.append(try character(digits: 2))
        case "u": out.append(try character(digits: 4))
        case "U": out.append(try character(digits: 8))
        case "N": out.append(try namedCharacter())
        default:
            // Python has escaped what is not ASCII when it comes to the backslash before it, which thus escapes another.
            let rest = escaped.isASCII ? String(escaped) : String(JinjaWriter.escape(escaped).dropFirst())
            out.append("\\")
            out.append(contentsOf: rest.unicodeScalars)
        }
    }
}
