/// Parses a template's parts into statements, by recursive descent in the order of Jinja's precedences.
struct JinjaParser {
    /// Statements and expressions in each other at most: what a stack of 512 KiB holds with room to spare.
    private static let depthLimit = 64

    private let parts: [JinjaLexer.Part]
    private var next = 0
    private var tokens: [JinjaLexer.Token] = []
    private var at = 0
    private var line = 1
    private var depth = 0

    static func parse(_ template: String) throws -> [JinjaStatement] {
        var parser = JinjaParser(parts: try JinjaLexer.parts(of: template))
        let (body, end) = try parser.body(until: [])
        if let end { throw parser.wrong("{% \(end) %} closes nothing") }
        return body
    }

    private init(parts: [JinjaLexer.Part]) { self.parts = parts }

    private func wrong(_ why: String) -> TextError {
        TextError("the chat template cannot be used: \(why) (line \(line))")
    }

    // MARK: Statements

    /// Statements up to a tag whose first word is in `ends`; that tag's other tokens stay to be read.
    private mutating func body(until ends: Set<String>) throws -> ([JinjaStatement], String?) {
        depth += 1
        defer { depth -= 1 }
        guard depth < Self.depthLimit else { throw wrong("it nests too deeply") }
        var statements: [JinjaStatement] = []
        while next < parts.count {
            let part = parts[next]
            next += 1
            switch part {
            case .text(let text): statements.append(.text(text))
            case .output(let tokens, let line):
                begin(tokens, line)
                statements.append(.output(try expression()))
                try finish()
            case .statement(let tokens, let line):
                begin(tokens, line)
                let word = try name("a statement")
                if ends.contains(word) { return (statements, word) }
                if let statement = try statement(word) { statements.append(statement) }
            }
        }
        if let missing = ends.first(where: { $0.hasPrefix("end") }) { throw wrong("{% \(missing) %} is missing") }
        return (statements, nil)
    }

    private mutating func begin(_ tokens: [JinjaLexer.Token], _ line: Int) {
        self.tokens = tokens
        self.line = line
        at = 0
    }

    private mutating func finish() throws {
        guard at == tokens.count else { throw wrong("unexpected \(describe(tokens[at]))") }
    }

    private mutating func statement(_ word: String) throws -> JinjaStatement? {
        switch word {
        case "if": return try ifStatement()
        case "for": return try forStatement()
        case "set": return try setStatement()
        case "break", "continue":
            try finish()
            return word == "break" ? .break : .continue
        case "generation", "endgeneration":  // transformers' marks for training; they print nothing
            try finish()
            return nil
        case "else", "elif", "endif", "endfor", "endset": throw wrong("{% \(word) %} closes nothing")
        default: throw wrong("the statement \"\(word)\" is not supported")
        }
    }

    private mutating func ifStatement() throws -> JinjaStatement {
        var branches: [(condition: JinjaExpression, body: [JinjaStatement])] = []
        var condition = try expression()
        try finish()
        while true {
            let (body, end) = try body(until: ["elif", "else", "endif"])
            branches.append((condition, body))
            switch end {
            case "elif":
                condition = try expression()
                try finish()
            case "else":
                try finish()
                let (otherwise, _) = try self.body(until: ["endif"])
                try finish()
                return .if(branches, else: otherwise)
            default:
                try finish()
                return .if(branches, else: [])
            }
        }
    }

    private mutating func forStatement() throws -> JinjaStatement {
        var targets = [try name("a loop variable")]
        while take(",") { targets.append(try name("a loop variable")) }
        guard takeName("in") else { throw wrong("\"in\" was expected") }
        let items = try or()
        let condition = takeName("if") ? try expression() : nil
        try finish()
        let (body, end) = try body(until: ["else", "endfor"])
        try finish()
        var otherwise: [JinjaStatement] = []
        if end == "else" {
            (otherwise, _) = try self.body(until: ["endfor"])
            try finish()
        }
        return .for(JinjaLoop(targets: targets, items: items, condition: condition, body: body, otherwise: otherwise))
    }

    private mutating func setStatement() throws -> JinjaStatement {
        let first = try name("a variable")
        if take(".") {
            let member = try name("an attribute")
            guard take("=") else { throw wrong("\"=\" was expected") }
            let value = try expression()
            try finish()
            return .setAttribute(first, member, value)
        }
        if at == tokens.count {
            let (body, _) = try body(until: ["endset"])
            try finish()
            return .setBlock(first, body)
        }
        var names = [first]
        while take(",") { names.append(try name("a variable")) }
        guard take("=") else { throw wrong("\"=\" was expected") }
        let value = try tuple()
        try finish()
        return .set(names, value)
    }

    // MARK: Tokens

    private func describe(_ token: JinjaLexer.Token) -> String {
        switch token {
        case .name(let text), .symbol(let text): "\"\(text)\""
        case .string: "string"
        case .int, .float: "number"
        }
    }

    private mutating func take(_ symbol: String) -> Bool {
        guard at < tokens.count, tokens[at] == .symbol(symbol) else { return false }
        at += 1
        return true
    }

    private mutating func takeName(_ word: String) -> Bool {
        guard at < tokens.count, tokens[at] == .name(word) else { return false }
        at += 1
        return true
    }

    private mutating func expect(_ symbol: String) throws {
        guard take(symbol) else { throw wrong("\"\(symbol)\" was expected") }
    }

    private mutating func name(_ what: String) throws -> String {
        guard at < tokens.count, case .name(let word) = tokens[at] else { throw wrong("\(what) was expected") }
        at += 1
        return word
    }

    // MARK: Expressions

    private mutating func expression() throws -> JinjaExpression {
        depth += 1
        defer { depth -= 1 }
        guard depth < Self.depthLimit else { throw wrong("it nests too deeply") }
        let value = try or()
        guard takeName("if") else { return value }
        let condition = try or()
        return .conditional(value, if: condition, else: takeName("else") ? try expression() : nil)
    }

    private mutating func tuple() throws -> JinjaExpression {
        var items = [try expression()]
        guard take(",") else { return items[0] }
        repeat { items.append(try expression()) } while take(",")
        return .list(items)
    }

    private mutating func or() throws -> JinjaExpression {
        var left = try and()
        while takeName("or") { left = .binary("or", left, try and()) }
        return left
    }

    private mutating func and() throws -> JinjaExpression {
        var left = try not()
        while takeName("and") { left = .binary("and", left, try not()) }
        return left
    }

    private mutating func not() throws -> JinjaExpression {
        var negations = 0
        while takeName("not") { negations += 1 }
        let value = try comparison()
        return negations == 0 ? value : negations % 2 == 1 ? .unary("not", value) : .unary("not", .unary("not", value))
    }

    private mutating func comparison() throws -> JinjaExpression {
        var left = try sum()
        while at < tokens.count {
            if case .symbol(let symbol) = tokens[at], ["==", "!=", "<", ">", "<=", ">="].contains(symbol) {
                at += 1
                left = .binary(symbol, left, try sum())
            } else if takeName("in") {
                left = .binary("in", left, try sum())
            } else if at + 1 < tokens.count, tokens[at] == .name("not"), tokens[at + 1] == .name("in") {
                at += 2
                left = .unary("not", .binary("in", left, try sum()))
            } else {
                break
            }
        }
        return left
    }

    private mutating func sum() throws -> JinjaExpression {
        var left = try concatenation()
        while true {
            if take("+") {
                left = .binary("+", left, try concatenation())
            } else if take("-") {
                left = .binary("-", left, try concatenation())
            } else {
                return left
            }
        }
    }

    private mutating func concatenation() throws -> JinjaExpression {
        var left = try product()
        while take("~") { left = .binary("~", left, try product()) }
        return left
    }

    private mutating func product() throws -> JinjaExpression {
        var left = try unary()
        while at < tokens.count, case .symbol(let symbol) = tokens[at], ["*", "/", "//", "%"].contains(symbol) {
            at += 1
            left = .binary(symbol, left, try unary())
        }
        return left
    }

    private mutating func unary() throws -> JinjaExpression {
        var negative = false
        while true {
            if take("-") { negative.toggle() } else if !take("+") { break }
        }
        let value = try filtered(try postfix(try primary()))
        return negative ? .unary("-", value) : value
    }

    /// Filters and tests bind tighter than arithmetic.
    private mutating func filtered(_ value: JinjaExpression) throws -> JinjaExpression {
        var value = value
        while true {
            if take("|") {
                let filter = try name("a filter")
                guard JinjaLibrary.filters.contains(filter) else {
                    throw wrong("the filter \"\(filter)\" is not supported")
                }
                value = .filter(value, filter, take("(") ? try arguments() : JinjaArguments())
            } else if takeName("is") {
                let negated = takeName("not")
                let test = try name("a test")
                guard JinjaLibrary.tests.contains(test) else { throw wrong("the test \"\(test)\" is not supported") }
                var arguments = JinjaArguments()
                if take("(") {
                    arguments = try self.arguments()
                } else if ["eq", "equalto", "ne", "in"].contains(test) {
                    arguments.positional = [try postfix(try primary())]
                }
                value = .test(value, test, arguments, negated: negated)
            } else {
                return value
            }
        }
    }

    private mutating func postfix(_ value: JinjaExpression) throws -> JinjaExpression {
        var value = value
        while true {
            if take(".") {
                let member = try name("an attribute")
                guard take("(") else {
                    value = .attribute(value, member)
                    continue
                }
                guard JinjaLibrary.methods.contains(member) else {
                    throw wrong("the method \"\(member)\" is not supported")
                }
                value = .method(value, member, try arguments())
            } else if take("[") {
                value = try subscripted(value)
            } else if take("(") {
                guard case .name(let function) = value, JinjaLibrary.functions.contains(function) else {
                    throw wrong(
                        "only the functions \(JinjaLibrary.functions.sorted().joined(separator: ", ")) can be called")
                }
                value = .call(function, try arguments())
            } else {
                return value
            }
        }
    }

    private mutating func subscripted(_ value: JinjaExpression) throws -> JinjaExpression {
        func ends() -> Bool { at < tokens.count && (tokens[at] == .symbol(":") || tokens[at] == .symbol("]")) }
        let start = ends() ? nil : try expression()
        guard take(":") else {
            try expect("]")
            guard let start else { throw wrong("an index was expected") }
            return .index(value, start)
        }
        let stop = ends() ? nil : try expression()
        let step = take(":") && !ends() ? try expression() : nil
        try expect("]")
        return .slice(value, start, stop, step)
    }

    private mutating func arguments() throws -> JinjaArguments {
        var found = JinjaArguments()
        while !take(")") {
            if at + 1 < tokens.count, case .name(let key) = tokens[at], tokens[at + 1] == .symbol("=") {
                at += 2
                found.named.append((key, try expression()))
            } else {
                found.positional.append(try expression())
            }
            if !take(",") {
                try expect(")")
                break
            }
        }
        return found
    }

    private mutating func primary() throws -> JinjaExpression {
        guard at < tokens.count else { throw wrong("an expression was expected") }
        let token = tokens[at]
        at += 1
        switch token {
        case .string(let text):
            var whole = text
            while at < tokens.count, case .string(let more) = tokens[at] {
                whole += more
                at += 1
            }
            return .literal(.string(whole))
        case .int(let i): return .literal(.int(i))
        case .float(let d): return .literal(.float(d))
        case .name(let word):
            switch word {
            case "true", "True": return .literal(.bool(true))
            case "false", "False": return .literal(.bool(false))
            case "none", "None": return .literal(.none)
            default: return .name(word)
            }
        case .symbol("("):
            if take(")") { return .list([]) }
            let inner = try tuple()
            try expect(")")
            return inner
        case .symbol("["): return .list(try items(until: "]"))
        case .symbol("{"): return try dict()
        case .symbol: throw wrong("unexpected \(describe(token))")
        }
    }

    private mutating func items(until close: String) throws -> [JinjaExpression] {
        var found: [JinjaExpression] = []
        while !take(close) {
            found.append(try expression())
            if !take(",") {
                try expect(close)
                break
            }
        }
        return found
    }

    private mutating func dict() throws -> JinjaExpression {
        var pairs: [(JinjaExpression, JinjaExpression)] = []
        while !take("}") {
            let key = try expression()
            try expect(":")
            pairs.append((key, try expression()))
            if !take(",") {
                try expect("}")
                break
            }
        }
        return .dict(pairs)
    }
}
