/// Parses a template's parts by recursive descent: statements in `JinjaStatementParser.swift`, expressions in
/// `JinjaExpressionParser.swift`; here is what both stand on.
struct JinjaParser {
    /// Statements and expressions in each other at most: what a stack of 512 KiB holds with room to spare.
    private static let depthLimit = 64

    let parts: [JinjaLexer.Part]
    var next = 0
    var tokens: [JinjaToken] = []
    var at = 0
    var line = 1
    private var depth = 0
    /// The names that expressions have spoken of.
    var names: Set<String> = []
    /// Blocks and expressions around that run only where a condition holds. What is unknown in them is wrong only then.
    var conditions = 0
    var loops = 0

    static func parse(_ template: String) throws -> [JinjaNode] {
        var parser = JinjaParser(parts: try JinjaLexer.parts(of: template))
        let (body, end) = try parser.body(until: [])
        if let end { throw parser.wrong("{% \(end) %} closes nothing") }
        return body
    }

    private init(parts: [JinjaLexer.Part]) { self.parts = parts }

    func wrong(_ why: String) -> TextError {
        let place = at < tokens.count ? tokens[at].line : tokens.last?.line ?? line
        return TextError("the chat template cannot be used: \(why) (line \(place))")
    }

    mutating func nested<Result>(_ parse: (inout JinjaParser) throws -> Result) throws -> Result {
        depth += 1
        defer { depth -= 1 }
        guard depth < Self.depthLimit else { throw wrong("it nests too deeply") }
        return try parse(&self)
    }

    /// What runs only where a condition holds.
    mutating func conditional<Result>(_ parse: (inout JinjaParser) throws -> Result) rethrows -> Result {
        conditions += 1
        defer { conditions -= 1 }
        return try parse(&self)
    }

    // MARK: Tokens

    var kind: JinjaToken.Kind? { at < tokens.count ? tokens[at].kind : nil }

    mutating func begin(_ tokens: [JinjaToken]) {
        self.tokens = tokens
        line = tokens.first?.line ?? line
        at = 0
    }

    func finish() throws {
        if let kind { throw wrong("unexpected \(describe(kind))") }
    }

    func describe(_ kind: JinjaToken.Kind) -> String {
        switch kind {
        case .name(let text), .symbol(let text): "\"\(text)\""
        case .string: "string"
        case .int, .float: "number"
        }
    }

    mutating func take(_ symbol: String) -> Bool {
        guard kind == .symbol(symbol) else { return false }
        at += 1
        return true
    }

    mutating func takeName(_ word: String) -> Bool {
        guard kind == .name(word) else { return false }
        at += 1
        return true
    }

    mutating func expect(_ symbol: String) throws {
        guard take(symbol) else { throw wrong("\"\(symbol)\" was expected") }
    }

    mutating func name(_ what: String) throws -> String {
        guard case .name(let word) = kind else { throw wrong("\(what) was expected") }
        at += 1
        return word
    }
}
