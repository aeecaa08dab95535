/// Running statements.
extension JinjaEvaluator {
    enum Flow { case normal, breaks, continues }

    mutating func run(_ nodes: [JinjaNode]) throws -> Flow {
        try nested { evaluator in
            for node in nodes {
                evaluator.line = node.line
                let flow = try evaluator.run(node.statement)
                if flow != .normal { return flow }
            }
            return .normal
        }
    }

    private mutating func run(_ statement: JinjaStatement) throws -> Flow {
        try budget.step()
        switch statement {
        case .text(let text): try write(TemplateText(text))
        case .output(let expression): try write(try value(expression).text(budget))
        case .if(let branches, let otherwise): return try run(try chosen(branches) ?? otherwise)
        case .for(let loop): try self.loop(loop)
        case .set(let target, let expression): try assign(target, try value(expression))
        case .setBlock(let target, let filters, let body):
            try assign(target, try filtered(body, filters))
        case .filter(let filters, let body): try write(try filtered(body, filters).text(budget))
        case .macro(let definition): set(definition.name, .macro(JinjaMacro(definition, try capture())))
        case .call(let expression, let definition): try callBlock(expression, definition)
        case .with(let values, let body): try with(values, body)
        case .block(let body): _ = try scoped { _ = try $0.run(body) }
        case .break: return .breaks
        case .continue: return .continues
        }
        return .normal
    }

    private mutating func chosen(_ branches: [JinjaBranch]) throws -> [JinjaNode]? {
        for branch in branches {
            line = branch.line
            if try value(branch.condition).isTrue { return branch.body }
        }
        return nil
    }

    private mutating func filtered(_ body: [JinjaNode], _ filters: [JinjaFilterCall]) throws -> JinjaValue {
        var value = JinjaValue.string(try text { try $0.scoped { _ = try $0.run(body) } })
        for filter in filters { value = try apply(filter, value) }
        return value
    }

    /// Values see the variables from outside and those before them.
    private mutating func with(_ values: [(JinjaTarget, JinjaExpression)], _ body: [JinjaNode]) throws {
        let found = try values.map { ($0.0, try value($0.1)) }
        try scoped { evaluator in
            for (target, value) in found { try evaluator.assign(target, value) }
            _ = try evaluator.run(body)
        }
    }

    // MARK: Assigning

    mutating func assign(_ target: JinjaTarget, _ value: JinjaValue) throws {
        switch target {
        case .name(let name): set(name, value)
        case .attribute(let name, let member):
            guard case .namespace(let space) = lookUp(name) else {
                throw TextError("the chat template sets an attribute of \(name), which is no namespace")
            }
            guard !member.hasPrefix("_") else { throw TextError("a namespace holds no \(member)") }
            space.members[member] = try value.member
        case .tuple(let targets):
            let items = try value.elements(budget)
            guard items.count == targets.count else {
                throw TextError("the chat template spreads \(items.count) values over \(targets.count) variables")
            }
            for (target, item) in zip(targets, items) { try assign(target, item) }
        }
    }

    // MARK: Loops

    private mutating func loop(_ loop: JinjaFor) throws {
        var items = try value(loop.items).elements(budget)
        if let condition = loop.condition {
            items = try scoped { evaluator in
                try items.filter { item in
                    try evaluator.assign(loop.target, item)
                    return try evaluator.value(condition).isTrue
                }
            }
        }
        guard !items.isEmpty else { return try scoped { _ = try $0.run(loop.otherwise) } }
        let state = JinjaLoopState(items)
        for (index, item) in items.enumerated() {
            try budget.spend(2 * JinjaBudget.stepCost)
            state.index = index
            let flow = try scoped(["loop": .loop(state)]) { evaluator in
                try evaluator.assign(loop.target, item)
                return try evaluator.run(loop.body)
            }
            if flow == .breaks { break }
        }
    }
}

extension JinjaValue {
    /// This value as a member of a namespace.
    var member: JinjaValue {
        get throws {
            switch self {
            case .namespace, .loop: throw TextError("the chat template puts a \(typeName) into a namespace")
            default: return self
            }
        }
    }
}
