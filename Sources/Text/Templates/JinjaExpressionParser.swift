/// Expressions, in the order of Jinja's precedences.
extension JinjaParser {
    mutating func expression() throws -> JinjaExpression { try nested { try $0.condition() } }

    private mutating func condition() throws -> JinjaExpression {
        var value = try or()
        while takeName("if") {
            let condition = try or()
            let otherwise = takeName("else") ? try conditional { try $0.expression() } : nil
            value = .conditional(value, if: condition, else: otherwise)
        }
        return value
    }

    /// Expressions with commas between them, which make a tuple.
    /// - Parameters:
    ///   - conditional: whether they may be inline ifs.
    ///   - end: a word that may stand behind a last comma.
    mutating func tuple(conditional: Bool = true, end: String? = nil) throws -> JinjaExpression {
        func element(_ parser: inout JinjaParser) throws -> JinjaExpression {
            conditional ? try parser.expression() : try parser.nested { try $0.or() }
        }
        var items = [try element(&self)]
        guard take(",") else { return items[0] }
        while let kind, kind != .symbol(")"), end == nil || kind != .name(end ?? "") {
            items.append(try element(&self))
            if !take(",") { break }
        }
        return .tuple(items)
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
        let first = try sum()
        var others: [(sign: String, JinjaExpression)] = []
        while let kind {
            if case .symbol(let symbol) = kind, ["==", "!=", "<", ">", "<=", ">="].contains(symbol) {
                at += 1
                others.append((symbol, try sum()))
            } else if takeName("in") {
                others.append(("in", try sum()))
            } else if kind == .name("not"), at + 1 < tokens.count, tokens[at + 1].kind == .name("in") {
                at += 2
                others.append(("not in", try sum()))
            } else {
                break
            }
        }
        return others.isEmpty ? first : .comparison(first, others)
    }

    private mutating func chain(
        _ signs: Set<String>, _ operand: (inout JinjaParser) throws -> JinjaExpression
    ) throws -> JinjaExpression {
        var left = try operand(&self)
        while case .symbol(let sign) = kind, signs.contains(sign) {
            at += 1
            left = .binary(sign, left, try operand(&self))
        }
        return left
    }

    private mutating func sum() throws -> JinjaExpression { try chain(["+", "-"]) { try $0.concatenation() } }
    private mutating func concatenation() throws -> JinjaExpression { try chain(["~"]) { try $0.product() } }
    private mutating func product() throws -> JinjaExpression {
        try chain(["*", "/", "//", "%"]) { try $0.chain(["**"]) { try $0.unary(filtered: true) } }
    }

    /// A sign binds tighter than filters and tests, and looser than attributes.
    private mutating func unary(filtered: Bool) throws -> JinjaExpression {
        var signs: [String] = []
        while case .symbol(let sign) = kind, sign == "-" || sign == "+" {
            at += 1
            signs.append(sign)
        }
        var value = try postfix(try primary())
        if signs.count > 1 {
            // Two of a kind say nothing that one pair does not.
            let negative = signs.count { $0 == "-" } % 2 == 1
            value = .unary(negative ? "-" : "+", value)
        } else if let sign = signs.first {
            value = .unary(sign, value)
        }
        return try self.filtered(value)
    }

    // MARK: Filters and tests

    private mutating func filtered(_ value: JinjaExpression) throws -> JinjaExpression {
        var value = value
        while true {
            if take("|") {
                value = .filter(value, try filter())
            } else if takeName("is") {
                value = try test(value)
            } else if take("(") {
                value = .call(value, try arguments())
            } else {
                return value
            }
        }
    }

    private mutating func filter() throws -> JinjaFilterCall {
        let name = try name("a filter")
        guard conditions > 0 || JinjaFilters.signatures[name] != nil else {
            throw wrong("the filter \"\(name)\" is not supported")
        }
        return JinjaFilterCall(name: name, arguments: take("(") ? try arguments() : JinjaArguments())
    }

    /// Filters after one another; the first `|` is taken or not there.
    mutating func filterChain() throws -> [JinjaFilterCall] {
        var found: [JinjaFilterCall] = []
        repeat { found.append(try filter()) } while take("|")
        return found
    }

    private mutating func test(_ value: JinjaExpression) throws -> JinjaExpression {
        let negated = takeName("not")
        let name = try name("a test")
        guard conditions > 0 || JinjaTests.names.contains(name) else {
            throw wrong("the test \"\(name)\" is not supported")
        }
        var arguments = JinjaArguments()
        if take("(") {
            arguments = try self.arguments()
        } else if let kind, beginsArgument(kind) {
            if kind == .name("is") { throw wrong("tests cannot be chained") }
            arguments.positional = [try postfix(try primary())]
        }
        return .test(value, name, arguments, negated: negated)
    }

    /// Whether an argument without brackets follows a test.
    private func beginsArgument(_ kind: JinjaToken.Kind) -> Bool {
        switch kind {
        case .string, .int, .float, .symbol("["), .symbol("{"): true
        case .name(let word): !["else", "or", "and"].contains(word)
        case .symbol: false
        }
    }

    // MARK: Attributes, elements, calls

    private mutating func postfix(_ value: JinjaExpression) throws -> JinjaExpression {
        var value = value
        while true {
            if take(".") {
                if case .int(let index) = kind {
                    at += 1
                    value = .index(value, .literal(.int(index)))
                } else {
                    value = .attribute(value, try name("an attribute"))
                }
            } else if take("[") {
                value = try subscripted(value)
            } else if take("(") {
                value = .call(value, try arguments())
            } else {
                return value
            }
        }
    }

    private mutating func subscripted(_ value: JinjaExpression) throws -> JinjaExpression {
        func ends(_ parser: JinjaParser) -> Bool {
            parser.kind == .symbol(":") || parser.kind == .symbol("]") || parser.kind == .symbol(",")
        }
        let start = ends(self) ? nil : try expression()
        if take(":") {
            let stop = ends(self) ? nil : try expression()
            let step = take(":") && !ends(self) ? try expression() : nil
            try expect("]")
            return .slice(value, start, stop, step)
        }
        guard let start else { throw wrong("an index was expected") }
        if take("]") { return .index(value, start) }
        var items = [start]
        while take(",") { items.append(try expression()) }
        try expect("]")
        return .index(value, .tuple(items))
    }

    private mutating func arguments() throws -> JinjaArguments {
        var found = JinjaArguments()
        while !take(")") {
            if take("**") {
                guard found.moreNamed == nil else { throw wrong("a second ** in a call") }
                found.moreNamed = try expression()
            } else if take("*") {
                guard found.more == nil, found.moreNamed == nil else { throw wrong("a second * in a call") }
                found.more = try expression()
            } else if case .name(let name) = kind, at + 1 < tokens.count, tokens[at + 1].kind == .symbol("=") {
                at += 2
                guard found.moreNamed == nil, !found.named.contains(where: { $0.0 == name }) else {
                    throw wrong("the argument \"\(name)\" is said twice or behind **")
                }
                found.named.append((name, try expression()))
            } else {
                guard found.named.isEmpty, found.more == nil, found.moreNamed == nil else {
                    throw wrong("an argument without a name stands behind one with a name")
                }
                found.positional.append(try expression())
            }
            if !take(",") {
                try expect(")")
                break
            }
        }
        return found
    }

    // MARK: Literals

    private mutating func primary() throws -> JinjaExpression {
        guard let kind else { throw wrong("an expression was expected") }
        at += 1
        switch kind {
        case .string(let text):
            var whole = text
            while case .string(let more) = self.kind {
                whole += more
                at += 1
            }
            return .literal(.string(whole))
        case .int(let i): return .literal(.int(i))
        case .float(let d): return .literal(.float(d))
        case .name(let name): return word(name)
        case .symbol("("):
            if take(")") { return .tuple([]) }
            let inner = try tuple()
            try expect(")")
            return inner
        case .symbol("["): return .list(try items(until: "]"))
        case .symbol("{"): return try dict()
        case .symbol:
            at -= 1
            throw wrong("unexpected \(describe(kind))")
        }
    }

    private mutating func word(_ word: String) -> JinjaExpression {
        switch word {
        case "true", "True": return .literal(.bool(true))
        case "false", "False": return .literal(.bool(false))
        case "none", "None": return .literal(.none)
        default:
            names.insert(word)
            return .name(word)
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
