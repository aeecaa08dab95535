/// Runs a parsed template. What it may take is bounded by a ``JinjaBudget``, so a hostile template ends with an error. It
/// recurses with the nesting of the template's source, of its values and of its macros' calls, which are all bounded.
struct JinjaEvaluator {
    /// Bytes that one rendering may write.
    static let outputLimit = 8 << 20
    /// Statements, expressions and calls in each other while a template runs: what a stack of 512 KiB holds.
    private static let nestingLimit = 200

    var scopes: [JinjaScope]
    var output = TemplateText()
    /// Where the template stands.
    var line = 1
    let budget: JinjaBudget
    let now: @Sendable (String) -> String?
    private var nesting = 0
    /// Scopes that macros see. They may hold those macros, so they are emptied at the end.
    private var captured: [JinjaScope] = []

    init(variables: [String: JinjaValue], budget: JinjaBudget, now: @escaping @Sendable (String) -> String?) {
        scopes = [JinjaScope(variables)]
        self.budget = budget
        self.now = now
    }

    mutating func render(_ nodes: [JinjaNode]) throws -> TemplateText {
        defer { for scope in captured { scope.values.removeAll() } }
        do {
            _ = try run(nodes)
        } catch let error as TextError {
            throw TextError("\(error.description) (line \(line))")
        }
        return output
    }

    mutating func write(_ text: TemplateText) throws {
        try budget.spend(text.count)
        guard output.cost + text.cost <= Self.outputLimit else {
            throw TextError("the chat template writes too much text")
        }
        output.append(text)
    }

    mutating func nested<Result>(_ body: (inout JinjaEvaluator) throws -> Result) throws -> Result {
        nesting += 1
        defer { nesting -= 1 }
        guard nesting < Self.nestingLimit else { throw TextError("the chat template calls itself too deeply") }
        return try body(&self)
    }

    // MARK: Variables

    func lookUp(_ name: String) -> JinjaValue {
        for scope in scopes.reversed() {
            if let value = scope.values[name] { return value }
        }
        if JinjaFunctions.names.contains(name) { return .function(name) }
        return .undefined("\(name) is not defined")
    }

    mutating func set(_ name: String, _ value: JinjaValue) { scopes[scopes.count - 1].values[name] = value }

    /// The scopes, for a macro that may outlive them.
    mutating func capture() throws -> [JinjaScope] {
        try budget.elements(scopes.count)
        captured += scopes
        return scopes
    }

    /// Runs something in a scope of its own.
    mutating func scoped<Result>(
        _ values: [String: JinjaValue] = [:], _ body: (inout JinjaEvaluator) throws -> Result
    ) throws -> Result {
        scopes.append(JinjaScope(values))
        defer { scopes.removeLast() }
        return try body(&self)
    }

    /// What something writes, as a text.
    mutating func text(_ body: (inout JinjaEvaluator) throws -> Void) throws -> TemplateText {
        let saved = output
        output = TemplateText()
        defer { output = saved }
        try body(&self)
        try budget.text(output)
        return output
    }

    // MARK: Expressions

    /// The first operand of an expression, of that one the first, and so on: a chain of filters, attributes or sums is as
    /// long as its tag, so it is walked, not recursed into.
    mutating func value(_ expression: JinjaExpression) throws -> JinjaValue {
        try nested { evaluator in
            var chain: [JinjaExpression] = []
            var innermost = expression
            while let operand = innermost.firstOperand {
                chain.append(innermost)
                innermost = operand
            }
            var found = try evaluator.simple(innermost)
            while let outer = chain.popLast() { found = try evaluator.apply(outer, found) }
            return found
        }
    }

    /// An expression without a first operand.
    private mutating func simple(_ expression: JinjaExpression) throws -> JinjaValue {
        try budget.step()
        switch expression {
        case .literal(let literal): return literal.value
        case .name(let name): return lookUp(name)
        case .list(let items): return try list(items, .list)
        case .tuple(let items): return try list(items, .tuple)
        case .dict(let pairs): return try dict(pairs)
        case .conditional(let chosen, let condition, let otherwise):
            if try value(condition).isTrue { return try value(chosen) }
            return try otherwise.map { try value($0) } ?? .undefined("the other side of an if is not there")
        default: return .undefined("an expression")
        }
    }

    private mutating func list(_ items: [JinjaExpression], _ kind: JinjaList.Kind) throws -> JinjaValue {
        try budget.elements(items.count)
        return try budget.list(items.map { try value($0) }, kind)
    }

    private mutating func dict(_ pairs: [(JinjaExpression, JinjaExpression)]) throws -> JinjaValue {
        try budget.elements(2 * pairs.count)
        var members: JinjaMembers = [:]
        for (key, item) in pairs { members[try JinjaKey(try value(key), budget)] = try value(item) }
        return try budget.dict(members)
    }

    /// An expression whose first operand is known.
    private mutating func apply(_ expression: JinjaExpression, _ base: JinjaValue) throws -> JinjaValue {
        try budget.step()
        switch expression {
        case .attribute(_, let name): return try JinjaAccess(budget).attribute(base, name)
        case .index(_, let index): return try JinjaAccess(budget).element(base, try value(index))
        case .slice(_, let start, let stop, let step):
            let bounds = try [start, stop, step].map { try $0.flatMap { try bound($0) } }
            return try JinjaAccess(budget).slice(base, bounds[0], bounds[1], bounds[2] ?? 1)
        case .call(_, let arguments): return try call(base, try self.arguments(arguments))
        case .filter(_, let filter): return try apply(filter, base)
        case .test(_, let name, let arguments, let negated):
            return .bool(try JinjaTests.apply(name, base, try self.arguments(arguments), budget) != negated)
        case .unary(let sign, _):
            return sign == "not" ? .bool(!base.isTrue) : try JinjaArithmetic(budget).signed(sign, base)
        case .binary("and", _, let right): return base.isTrue ? try value(right) : base
        case .binary("or", _, let right): return base.isTrue ? base : try value(right)
        case .binary(let sign, _, let right): return try JinjaArithmetic(budget).apply(sign, base, try value(right))
        case .comparison(_, let others): return try comparison(base, others)
        default: return base
        }
    }

    private mutating func bound(_ expression: JinjaExpression) throws -> Int? {
        let value = try value(expression)
        guard let int = value.integer else {
            if value.isNone { return nil }
            throw TextError("the chat template slices by a \(value.typeName)")
        }
        return int
    }

    mutating func apply(_ filter: JinjaFilterCall, _ value: JinjaValue) throws -> JinjaValue {
        try JinjaFilters.apply(filter.name, value, try arguments(filter.arguments), budget)
    }

    /// A chain ends with its first comparison that does not hold.
    private mutating func comparison(
        _ first: JinjaValue, _ others: [(sign: String, JinjaExpression)]
    ) throws -> JinjaValue {
        var left = first
        for (sign, expression) in others {
            let right = try value(expression)
            let holds =
                switch sign {
                case "==": try JinjaValue.equal(left, right, budget)
                case "!=": try !JinjaValue.equal(left, right, budget)
                case "in": try JinjaOrder(budget).contains(right, left)
                case "not in": try !JinjaOrder(budget).contains(right, left)
                default: try JinjaOrder(budget).holds(sign, left, right)
                }
            guard holds else { return .bool(false) }
            left = right
        }
        return .bool(true)
    }
}

extension JinjaExpression {
    /// The operand that is computed first, and always; nil where there is none.
    fileprivate var firstOperand: JinjaExpression? {
        switch self {
        case .attribute(let base, _), .index(let base, _), .slice(let base, _, _, _), .call(let base, _),
            .filter(let base, _), .test(let base, _, _, _), .unary(_, let base), .binary(_, let base, _),
            .comparison(let base, _):
            base
        case .literal, .name, .list, .tuple, .dict, .conditional: nil
        }
    }
}
