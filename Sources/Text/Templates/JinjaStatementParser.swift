/// Statements: what stands between `{%` and `%}`, and the blocks that they open.
extension JinjaParser {
    /// Statements up to a tag whose first word is in `ends`; that tag's other tokens stay to be read.
    mutating func body(until ends: Set<String>) throws -> ([JinjaNode], String?) {
        try nested { try $0.statements(until: ends) }
    }

    private mutating func statements(until ends: Set<String>) throws -> ([JinjaNode], String?) {
        var nodes: [JinjaNode] = []
        while next < parts.count {
            let part = parts[next]
            next += 1
            switch part {
            case .text(let text, let line): nodes.append(JinjaNode(line: line, statement: .text(text)))
            case .output(let tokens):
                begin(tokens)
                nodes.append(JinjaNode(line: line, statement: .output(try tuple())))
                try finish()
            case .statement(let tokens):
                begin(tokens)
                let word = try name("a statement")
                if ends.contains(word) { return (nodes, word) }
                let line = line
                nodes.append(JinjaNode(line: line, statement: try statement(word)))
            }
        }
        if let missing = ends.first(where: { $0.hasPrefix("end") }) { throw wrong("{% \(missing) %} is missing") }
        return (nodes, nil)
    }

    /// A block up to its end, which has nothing else in its tag.
    private mutating func block(until end: String) throws -> [JinjaNode] {
        let (body, _) = try body(until: [end])
        try finish()
        return body
    }

    private mutating func statement(_ word: String) throws -> JinjaStatement {
        switch word {
        case "if": return try ifStatement()
        case "for": return try forStatement()
        case "set": return try setStatement()
        case "macro": return try macroStatement()
        case "call": return try callStatement()
        case "with": return try withStatement()
        case "filter":
            let filters = try filterChain()
            try finish()
            return .filter(filters, try apart { try $0.block(until: "endfilter") })
        case "generation":  // transformers' marks for training; they print nothing
            try finish()
            return .block(try apart { try $0.block(until: "endgeneration") })
        case "break", "continue":
            guard loops > 0 else { throw wrong("{% \(word) %} stands in no loop") }
            try finish()
            return word == "break" ? .break : .continue
        default:
            let closes = word.hasPrefix("end") || word == "else" || word == "elif"
            throw wrong(closes ? "{% \(word) %} closes nothing" : "the statement \"\(word)\" is not supported")
        }
    }

    /// A body that loops outside cannot be left from.
    private mutating func apart<Result>(_ parse: (inout JinjaParser) throws -> Result) rethrows -> Result {
        let outside = loops
        loops = 0
        defer { loops = outside }
        return try parse(&self)
    }

    private mutating func ifStatement() throws -> JinjaStatement {
        var branches: [JinjaBranch] = []
        while true {
            let line = line
            let condition = try tuple(conditional: false)
            try finish()
            let (body, end) = try conditional { try $0.body(until: ["elif", "else", "endif"]) }
            branches.append(JinjaBranch(line: line, condition: condition, body: body))
            if end == "elif" { continue }
            try finish()
            guard end == "else" else { return .if(branches, else: []) }
            return .if(branches, else: try conditional { try $0.block(until: "endif") })
        }
    }

    private mutating func forStatement() throws -> JinjaStatement {
        let target = try targets(until: "in")
        guard takeName("in") else { throw wrong("\"in\" was expected") }
        let items = try tuple(conditional: false, end: "recursive")
        let condition = takeName("if") ? try expression() : nil
        if takeName("recursive") { throw wrong("recursive loops are not supported") }
        try finish()
        loops += 1
        let (body, end) = try body(until: ["else", "endfor"])
        loops -= 1
        try finish()
        let otherwise = end == "else" ? try block(until: "endfor") : []
        return .for(JinjaFor(target: target, items: items, condition: condition, body: body, otherwise: otherwise))
    }

    private mutating func setStatement() throws -> JinjaStatement {
        let target = try targets(until: nil)
        if take("=") {
            let value = try tuple()
            try finish()
            return .set(target, value)
        }
        let filters = take("|") ? try filterChain() : []
        try finish()
        return .setBlock(target, filters, try apart { try $0.block(until: "endset") })
    }

    private mutating func withStatement() throws -> JinjaStatement {
        var values: [(JinjaTarget, JinjaExpression)] = []
        while kind != nil {
            if !values.isEmpty { try expect(",") }
            let target = JinjaTarget.name(try name("a variable"))
            try expect("=")
            values.append((target, try expression()))
        }
        return .with(values, try block(until: "endwith"))
    }

    private mutating func macroStatement() throws -> JinjaStatement {
        .macro(try macro(try name("a macro's name"), until: "endmacro"))
    }

    private mutating func callStatement() throws -> JinjaStatement {
        var parameters: [(name: String, standard: JinjaExpression?)] = []
        if kind == .symbol("(") { parameters = try self.parameters() }
        let call = try expression()
        guard case .call = call else { throw wrong("a call was expected") }
        try finish()
        return .call(call, try macro("caller", parameters, until: "endcall"))
    }

    private mutating func macro(
        _ name: String, _ known: [(name: String, standard: JinjaExpression?)]? = nil, until end: String
    ) throws -> JinjaMacroDefinition {
        let parameters = try known ?? parameters()
        if known == nil { try finish() }
        var outside: Set<String> = []
        swap(&names, &outside)
        // A macro runs where it is called, whatever condition stands around it.
        let body = try apart { try $0.block(until: end) }
        let definition = JinjaMacroDefinition(name: name, parameters: parameters, body: body, names: names)
        swap(&names, &outside)
        names.formUnion(outside)
        return definition
    }

    private mutating func parameters() throws -> [(name: String, standard: JinjaExpression?)] {
        try expect("(")
        var found: [(name: String, standard: JinjaExpression?)] = []
        while !take(")") {
            if !found.isEmpty { try expect(",") }
            let name = try name("a parameter")
            let standard = take("=") ? try expression() : nil
            if standard == nil, found.last?.standard != nil { throw wrong("\"\(name)\" needs a default") }
            found.append((name, standard))
        }
        return found
    }

    /// Variables, perhaps in brackets; a single one may be an attribute of a namespace.
    private mutating func targets(until end: String?) throws -> JinjaTarget {
        var found = [try target()]
        var isTuple = false
        while take(",") {
            isTuple = true
            guard let kind, kind != .symbol(")"), kind != .symbol("="), end == nil || kind != .name(end ?? "") else {
                break
            }
            found.append(try target())
        }
        return isTuple ? .tuple(found) : found[0]
    }

    private mutating func target() throws -> JinjaTarget {
        if take("(") {
            let inner = try nested { try $0.targets(until: nil) }
            try expect(")")
            return inner
        }
        let variable = try name("a variable")
        guard !["true", "True", "false", "False", "none", "None"].contains(variable) else {
            throw wrong("\"\(variable)\" is no variable")
        }
        guard take(".") else { return .name(variable) }
        names.insert(variable)
        return .attribute(variable, try name("an attribute"))
    }
}
