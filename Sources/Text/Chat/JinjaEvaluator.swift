/// Runs a parsed template. What it may take is bounded by a ``JinjaBudget``, so a hostile template ends with an error. Nothing
/// recurses but with the nesting of the template's source and of its values, which are bounded when they are made.
struct JinjaEvaluator {
    /// Bytes that one rendering may write.
    static let outputLimit = 8 << 20

    private var scopes: [[String: JinjaValue]]
    private var output = ""
    private let budget: JinjaBudget
    private let now: @Sendable (String) -> String

    private enum Flow { case normal, breaks, continues }

    init(variables: [String: JinjaValue], budget: JinjaBudget, now: @escaping @Sendable (String) -> String) {
        scopes = [variables]
        self.budget = budget
        self.now = now
    }

    mutating func render(_ statements: [JinjaStatement]) throws -> String {
        _ = try run(statements)
        return output
    }

    private mutating func write(_ text: String) throws {
        try budget.spend(text.utf8.count)
        guard output.utf8.count + text.utf8.count <= Self.outputLimit else {
            throw TextError("the chat template writes too much text")
        }
        output += text
    }

    // MARK: Statements

    private mutating func run(_ statements: [JinjaStatement]) throws -> Flow {
        for statement in statements {
            try budget.step()
            switch statement {
            case .text(let text): try write(text)
            case .output(let expression): try write(try value(expression).text(budget))
            case .if(let branches, let otherwise):
                let chosen = try branches.first { try value($0.condition).isTrue }?.body ?? otherwise
                let flow = try run(chosen)
                if flow != .normal { return flow }
            case .for(let loop): try self.loop(loop)
            case .set(let names, let expression): try set(names, try value(expression))
            case .setAttribute(let name, let member, let expression):
                guard case .namespace(let space) = lookUp(name) else {
                    throw TextError("the chat template sets an attribute of \(name), which is no namespace")
                }
                space.members[member] = try value(expression).member
            case .setBlock(let name, let body):
                let saved = output
                output = ""
                _ = try run(body)
                try budget.text(output.utf8.count)
                scopes[scopes.count - 1][name] = .string(output)
                output = saved
            case .break: return .breaks
            case .continue: return .continues
            }
        }
        return .normal
    }

    private mutating func set(_ names: [String], _ value: JinjaValue) throws {
        if names.count == 1 {
            scopes[scopes.count - 1][names[0]] = value
            return
        }
        guard case .list(let list) = value, list.items.count == names.count else {
            throw TextError("the chat template cannot spread a \(value.typeName) over \(names.count) variables")
        }
        for (name, item) in zip(names, list.items) { scopes[scopes.count - 1][name] = item }
    }

    private mutating func loop(_ loop: JinjaLoop) throws {
        var items = try Self.iterate(try value(loop.items), budget)
        scopes.append([:])
        defer { scopes.removeLast() }
        if let condition = loop.condition {
            items = try items.filter { item in
                try set(loop.targets, item)
                return try value(condition).isTrue
            }
        }
        guard !items.isEmpty else {
            _ = try run(loop.otherwise)
            return
        }
        for (index, item) in items.enumerated() {
            try budget.step()
            scopes[scopes.count - 1] = ["loop": try loopVariable(items, index)]
            try set(loop.targets, item)
            if try run(loop.body) == .breaks { break }
        }
    }

    private func loopVariable(_ items: [JinjaValue], _ index: Int) throws -> JinjaValue {
        try budget.spend(4 * JinjaBudget.stepCost)
        return try budget.dict([
            "index": .int(index + 1), "index0": .int(index), "first": .bool(index == 0),
            "last": .bool(index == items.count - 1), "length": .int(items.count), "revindex": .int(items.count - index),
            "revindex0": .int(items.count - index - 1),
            "previtem": index > 0 ? items[index - 1] : .undefined("previtem"),
            "nextitem": index + 1 < items.count ? items[index + 1] : .undefined("nextitem"),
        ])
    }

    static func iterate(_ value: JinjaValue, _ budget: JinjaBudget) throws -> [JinjaValue] {
        switch value {
        case .list(let list): return list.items
        case .dict(let dict):
            try budget.elements(dict.members.count)
            return dict.members.keys.map(JinjaValue.string)
        case .string(let text):
            try budget.elements(text.utf8.count)
            return text.unicodeScalars.map { .string(String($0)) }
        case .undefined: return []
        default: throw TextError("the chat template iterates over a \(value.typeName)")
        }
    }

    private func lookUp(_ name: String) -> JinjaValue {
        for scope in scopes.reversed() {
            if let value = scope[name] { return value }
        }
        return .undefined(name)
    }

    // MARK: Expressions

    /// The first operand of an expression, of that one the first, and so on: a chain of filters, attributes or sums is as
    /// long as its tag, so it is walked, not recursed into.
    private mutating func value(_ expression: JinjaExpression) throws -> JinjaValue {
        var chain: [JinjaExpression] = []
        var innermost = expression
        while let operand = innermost.firstOperand {
            chain.append(innermost)
            innermost = operand
        }
        var found = try simple(innermost)
        while let outer = chain.popLast() { found = try apply(outer, found) }
        return found
    }

    /// An expression without a first operand.
    private mutating func simple(_ expression: JinjaExpression) throws -> JinjaValue {
        try budget.step()
        switch expression {
        case .literal(let literal): return literal.value
        case .name(let name): return lookUp(name)
        case .list(let items):
            try budget.elements(items.count)
            return try budget.list(items.map { try value($0) })
        case .dict(let pairs):
            try budget.elements(2 * pairs.count)
            var members: JinjaMembers = [:]
            for (key, item) in pairs { members[try value(key).text(budget)] = try value(item) }
            return try budget.dict(members)
        case .call(let function, let arguments): return try call(function, arguments)
        case .conditional(let chosen, let condition, let otherwise):
            if try value(condition).isTrue { return try value(chosen) }
            return try otherwise.map { try value($0) } ?? .undefined("the other side of an if")
        default: return .undefined("an expression")
        }
    }

    /// An expression whose first operand is known.
    private mutating func apply(_ expression: JinjaExpression, _ base: JinjaValue) throws -> JinjaValue {
        try budget.step()
        switch expression {
        case .attribute(_, let name): return try Self.member(base, name)
        case .index(_, let index): return try element(base, try value(index))
        case .slice(_, let start, let stop, let step):
            let bounds = try [start, stop, step].map { try $0.map { try integer($0) } }
            return try slice(base, bounds[0], bounds[1], bounds[2] ?? 1)
        case .method(_, let name, let arguments):
            return try JinjaMethods.call(base, name, try arguments.positional.map { try value($0) }, budget)
        case .filter(_, let name, let arguments):
            let positional = try arguments.positional.map { try value($0) }
            var named: [String: JinjaValue] = [:]
            for (key, item) in arguments.named { named[key] = try value(item) }
            return try JinjaFilters.apply(name, base, positional, named, budget)
        case .test(_, let name, let arguments, let negated):
            let arguments = try arguments.positional.map { try value($0) }
            return .bool(try JinjaFilters.test(name, base, arguments, budget) != negated)
        case .unary(let sign, _): return sign == "not" ? .bool(!base.isTrue) : try JinjaArithmetic.negate(base)
        case .binary("and", _, let right): return base.isTrue ? try value(right) : base
        case .binary("or", _, let right): return base.isTrue ? base : try value(right)
        case .binary(let sign, _, let right): return try JinjaArithmetic.apply(sign, base, try value(right), budget)
        default: return base
        }
    }

    private mutating func integer(_ expression: JinjaExpression) throws -> Int {
        guard case .int(let i) = try value(expression) else {
            throw TextError("the chat template slices with no integer")
        }
        return i
    }

    private mutating func call(_ function: String, _ arguments: JinjaArguments) throws -> JinjaValue {
        let positional = try arguments.positional.map { try value($0) }
        switch function {
        case "raise_exception":
            throw TextError("the chat template refuses: \(try positional.first?.text(budget).prefix(1000) ?? "")")
        case "namespace":
            var members: JinjaMembers = [:]
            for (key, item) in arguments.named { members[key] = try value(item).member }
            return .namespace(.init(members))
        case "strftime_now": return .string(now(try positional.first?.text(budget) ?? ""))
        default: return try range(positional)
        }
    }

    private func range(_ arguments: [JinjaValue]) throws -> JinjaValue {
        let bounds = try arguments.map { value -> Int in
            guard case .int(let i) = value, i.magnitude <= 1_000_000 else {
                throw TextError("range() takes integers up to a million")
            }
            return i
        }
        guard (1...3).contains(bounds.count) else { throw TextError("range() takes one to three integers") }
        let (from, to) = bounds.count == 1 ? (0, bounds[0]) : (bounds[0], bounds[1])
        let by = bounds.count == 3 ? bounds[2] : 1
        guard by != 0 else { throw TextError("range() by 0") }
        try budget.elements(max(0, (to - from) / by + 1))
        return try budget.list(stride(from: from, to: to, by: by).map(JinjaValue.int))
    }

    private static func member(_ base: JinjaValue, _ name: String) throws -> JinjaValue {
        switch base {
        case .dict(let dict): return dict.members[name] ?? .undefined(name)
        case .namespace(let space): return space.members[name] ?? .undefined(name)
        case .undefined(let what): throw TextError("the chat template asks for .\(name) of \(what), which is undefined")
        default: return .undefined(name)
        }
    }

    private func element(_ base: JinjaValue, _ index: JinjaValue) throws -> JinjaValue {
        switch (base, index) {
        case (.list(let list), .int(let i)):
            let at = i < 0 ? i + list.items.count : i
            return list.items.indices.contains(at) ? list.items[at] : .undefined("element \(i)")
        case (.string(let text), .int(let i)):
            try budget.text(4 * text.utf8.count)
            let scalars = Array(text.unicodeScalars)
            let at = i < 0 ? i + scalars.count : i
            return scalars.indices.contains(at) ? .string(String(scalars[at])) : .undefined("character \(i)")
        default: return try Self.member(base, try index.text(budget))
        }
    }

    /// Python's slices, negative bounds and steps included.
    private func slice(_ base: JinjaValue, _ start: Int?, _ stop: Int?, _ step: Int) throws -> JinjaValue {
        guard step != 0 else { throw TextError("the chat template slices by 0") }
        func picked(_ count: Int) -> StrideTo<Int> {
            let low = step > 0 ? 0 : -1
            let high = step > 0 ? count : count - 1
            func bound(_ value: Int?, _ fallback: Int) -> Int {
                guard let value else { return fallback }
                return min(max(value < 0 ? value + count : value, low), high)
            }
            let from = bound(start, step > 0 ? low : high)
            return stride(from: from, to: bound(stop, step > 0 ? high : low), by: min(max(step, -count - 1), count + 1))
        }
        switch base {
        case .list(let list):
            try budget.elements(list.items.count)
            return try budget.list(picked(list.items.count).map { list.items[$0] })
        case .string(let text):
            try budget.text(9 * text.utf8.count)
            let scalars = Array(text.unicodeScalars)
            var view = String.UnicodeScalarView()
            view.append(contentsOf: picked(scalars.count).map { scalars[$0] })
            return .string(String(view))
        default: throw TextError("the chat template slices a \(base.typeName)")
        }
    }
}

extension JinjaExpression {
    /// The operand that is computed first, and always; nil where there is none.
    fileprivate var firstOperand: JinjaExpression? {
        switch self {
        case .attribute(let base, _), .index(let base, _), .slice(let base, _, _, _), .method(let base, _, _),
            .filter(let base, _, _), .test(let base, _, _, _), .unary(_, let base), .binary(_, let base, _):
            base
        case .literal, .name, .list, .dict, .call, .conditional: nil
        }
    }
}

extension JinjaValue {
    /// This value as a member of a namespace.
    fileprivate var member: JinjaValue {
        get throws {
            if case .namespace = self { throw TextError("the chat template puts a namespace into another value") }
            return self
        }
    }
}
