/// Cuts a template into text, output tags and statement tags, with the whitespace rules of
/// `trim_blocks` and `lstrip_blocks` (https://jinja.palletsprojects.com/en/stable/templates/#whitespace-control).
struct JinjaLexer {
    enum Part {
        case text(String, line: Int)
        case output([JinjaToken])
        case statement([JinjaToken])
    }

    /// Bytes of a template at most; those of real models are below 32 KiB.
    private static let sourceLimit = 1 << 20

    private var scanner: JinjaTokenScanner
    private var parts: [Part] = []

    static func parts(of template: String) throws -> [Part] {
        guard template.utf8.count <= sourceLimit else {
            throw TextError("the chat template is longer than \(sourceLimit >> 10) KiB")
        }
        var scalars = withNewlines(template)
        if scalars.last == "\n" { scalars.removeLast() }  // keep_trailing_newline is off
        var lexer = JinjaLexer(scanner: JinjaTokenScanner(scalars))
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

    private init(scanner: JinjaTokenScanner) { self.scanner = scanner }

    private mutating func run() throws {
        var textStart = 0
        while let next = scanner.peek() {
            guard next == "{", let kind = scanner.peek(1), kind == "{" || kind == "%" || kind == "#" else {
                scanner.at += 1
                continue
            }
            addText(textStart, isOutput: kind == "{")
            let line = scanner.line
            scanner.at += 2
            if scanner.peek() == "-" || scanner.peek() == "+" { scanner.at += 1 }
            switch kind {
            case "#": try comment(line)
            case "{": parts.append(.output(try scanner.tokens(until: "}}")))
            default: if try !raw(line) { parts.append(.statement(try scanner.tokens(until: "%}"))) }
            }
            textStart = scanner.at
        }
        if textStart < scanner.source.count {
            parts.append(.text(scanner.string(scanner.source[textStart...]), line: scanner.line))
        }
    }

    /// The text before the tag that begins here, stripped as its opening says.
    private mutating func addText(_ start: Int, isOutput: Bool) {
        let source = scanner.source
        var text = source[start..<scanner.at]
        if scanner.peek(2) == "-" {
            while let last = text.last, last.isPythonSpace { text.removeLast() }
        } else if !isOutput, scanner.peek(2) != "+" {
            var stripped = text
            while let last = stripped.last, last != "\n", last.isPythonSpace { stripped.removeLast() }
            if stripped.isEmpty ? start == 0 || source[start - 1] == "\n" : stripped.last == "\n" { text = stripped }
        }
        if !text.isEmpty { parts.append(.text(scanner.string(text), line: scanner.line)) }
    }

    private mutating func comment(_ line: Int) throws {
        while scanner.at < scanner.source.count {
            if scanner.matches("#}") {
                let before = scanner.source[scanner.at - 1]
                scanner.at += 2
                return scanner.afterTag(strips: before == "-", trimsNewline: before != "+")
            }
            scanner.at += 1
        }
        throw TextError("the chat template has a comment that is not closed (line \(line))")
    }

    /// `{% raw %} … {% endraw %}`: text as it is. The opening `{%` has been read.
    private mutating func raw(_ line: Int) throws -> Bool {
        guard let strips = word("raw") else { return false }
        if strips { scanner.afterTag(strips: true, trimsNewline: false) }
        let start = scanner.at
        while scanner.at < scanner.source.count {
            if scanner.matches("{%") {
                let end = scanner.at
                scanner.at += 2
                if scanner.peek() == "-" || scanner.peek() == "+" { scanner.at += 1 }
                if let strips = word("endraw") {
                    let (after, keeps) = (scanner.at, scanner.source[scanner.at - 3] == "+")
                    scanner.at = end
                    addText(start, isOutput: false)
                    scanner.at = after
                    scanner.afterTag(strips: strips, trimsNewline: !keeps)
                    return true
                }
                scanner.at = end
            }
            scanner.at += 1
        }
        throw TextError("the chat template has a raw block that is not closed (line \(line))")
    }

    /// Reads the rest of a tag of this word alone, and says whether it strips what follows; nil leaves all unread.
    private mutating func word(_ word: String) -> Bool? {
        let start = scanner.at
        scanner.skipSpace()
        if scanner.matches(word) {
            scanner.at += word.unicodeScalars.count
            scanner.skipSpace()
            for (close, strips) in [("%}", false), ("-%}", true), ("+%}", false)] where scanner.matches(close) {
                scanner.at += close.unicodeScalars.count
                return strips
            }
        }
        scanner.at = start
        return nil
    }
}
