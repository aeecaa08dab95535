import OrderedCollections

/// Runs a parsed template. Time and output are bounded, so a hostile template ends with an error.
struct JinjaEvaluator {
    /// Statements and expressions that one rendering may take.
    static let stepLimit = 2_000_000
    /// Bytes that one rendering may write.
    static let outputLimit = 8 << 20

    private var scopes: [[String: JinjaValue]]
    private var output = ""
    private var steps = 0
    private let now: @Sendable (String) -> String

    private enum Flow { case normal, breaks, continues }

    init(variables: [String: JinjaValue], now: @escaping @Sendable (String) -> String) {
        scopes = [variables]
        self.now = now
    }

    mutating func render(_ statements: [JinjaStatement]) throws -> String {
        _ = try run(statements)
        return output
    }

    private mutating func step() throws {
        steps += 1
        guard steps <= Self.stepLimit else { throw TextError("the chat template runs for too long") }
    }

    private mutating func write(_ text: String) throws {
        output += text
        guard output.utf8.count <= Self.outputLimit else { throw TextError("the chat template writes too much text") }
    }

    // MARK: Statements

    private mutating func run(_ statements: [JinjaStatement]) throws -> Flow {
        for statement in statements {
            try step()
            switch statement {
            case .text(let text): try write(text)
            case .output(let expression): try write(try value(expression).text)
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
                space.members[member] = try value(expression)
            case .setBlock(let name, let body):
                let saved = output
                output = ""
                _ = try run(body)
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
        guard case .list(let items) = value, items.count == names.count else {
            throw TextError("the chat template cannot spread a \(value.typeName) over \(names.count) variables")
        }
        for (name, item) in zip(names, items) { scopes[scopes.count - 1][name] = item }
    }

    private mutating func loop(_ loop: JinjaLoop) throws {
        var items = try Self.iterate(try value(loop.items))
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
            try step()
            scopes[scopes.count - 1] = ["loop": Self.loopVariable(items, index)]
            try set(loop.targets, item)
            if try run(loop.body) == .breaks { break }
        }
    }

    private static func loopVariable(_ items: [JinjaValue], _ index: Int) -> JinjaValue {
        .dict([
            "index": .int(index + 1), "index0": .int(index), "first": .bool(index == 0),
            "last": .bool(index == items.count - 1), "length": .int(items.count), "revindex": .int(items.count - index),
            "revindex0": .int(items.count - index - 1),
            "previtem": index > 0 ? items[index - 1] : .undefined("previtem"),
            "nextitem": index + 1 < items.count ? items[index + 1] : .undefined("nextitem"),
        ])
    }

    static func iterate(_ value: JinjaValue) throws -> [JinjaValue] {
        switch value {
        case .list(let items): return items
        case .dict(let members): return members.keys.map(JinjaValue.string)
        case .string(let text): return text.unicodeScalars.map { .string(String($0)) }
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

    private mutating func value(_ expression: JinjaExpression) throws -> JinjaValue {
        try step()
        switch expression {
        case .literal(let literal): return literal.value
        case .name(let name): return lookUp(name)
        case .list(let items): return .list(try items.map { try value($0) })
        case .dict(let pairs):
            var members: OrderedDictionary<String, JinjaValue> = [:]
            for (key, item) in pairs { members[try value(key).text] = try value(item) }
            return .dict(members)
        case .attribute(let base, let name): return try Self.member(try value(base), name)
        case .index(let base, let index): return try Self.element(try value(base), try value(index))
        case .slice(let base, let start, let stop, let step):
            let bounds = try [start, stop, step].map { try $0.map { try integer($0) } }
            return try Self.slice(try value(base), bounds[0], bounds[1], bounds[2] ?? 1)
        case .call(let function, let arguments): return try call(function, arguments)
        case .method(let base, let name, let arguments):
            return try JinjaMethods.call(try value(base), name, try arguments.positional.map { try value($0) })
        case .filter(let base, let name, let arguments):
            let positional = try arguments.positional.map { try value($0) }
            var named: [String: JinjaValue] = [:]
            for (key, item) in arguments.named { named[key] = try value(item) }
            return try JinjaFilters.apply(name, try value(base), positional, named)
        case .test(let base, let name, let arguments, let negated):
            let result = try JinjaFilters.test(name, try value(base), try arguments.positional.map { try value($0) })
            return .bool(result != negated)
        case .unary(let sign, let operand):
            let operand = try value(operand)
            return sign == "not" ? .bool(!operand.isTrue) : try JinjaArithmetic.negate(operand)
        case .binary(let sign, let left, let right): return try binary(sign, left, right)
        case .conditional(let chosen, let condition, let otherwise):
            if try value(condition).isTrue { return try value(chosen) }
            return try otherwise.map { try value($0) } ?? .undefined("the other side of an if")
        }
    }

    private mutating func integer(_ expression: JinjaExpression) throws -> Int {
        guard case .int(let i) = try value(expression) else {
            throw TextError("the chat template slices with no integer")
        }
        return i
    }

    private mutating func binary(_ sign: String, _ left: JinjaExpression, _ right: JinjaExpression) throws -> JinjaValue
    {
        let a = try value(left)
        if sign == "and" { return a.isTrue ? try value(right) : a }
        if sign == "or" { return a.isTrue ? a : try value(right) }
        return try JinjaArithmetic.apply(sign, a, try value(right))
    }

    private mutating func call(_ function: String, _ arguments: JinjaArguments) throws -> JinjaValue {
        let positional = try arguments.positional.map { try value($0) }
        switch function {
        case "raise_exception": throw TextError("the chat template refuses: \(positional.first?.text ?? "")")
        case "namespace":
            var members: OrderedDictionary<String, JinjaValue> = [:]
            for (key, item) in arguments.named { members[key] = try value(item) }
            return .namespace(.init(members))
        case "strftime_now": return .string(now(positional.first?.text ?? ""))
        default:  // range
            let bounds = try positional.map { value -> Int in
                guard case .int(let i) = value, abs(i) <= 1_000_000 else {
                    throw TextError("range() takes small integers")
                }
                return i
            }
            switch bounds.count {
            case 1: return .list((0..<max(0, bounds[0])).map(JinjaValue.int))
            case 2, 3:
                let by = bounds.count == 3 ? bounds[2] : 1
                guard by != 0 else { throw TextError("range() by 0") }
                return .list(stride(from: bounds[0], to: bounds[1], by: by).map(JinjaValue.int))
            default: throw TextError("range() takes one to three integers")
            }
        }
    }

    private static func member(_ base: JinjaValue, _ name: String) throws -> JinjaValue {
        switch base {
        case .dict(let members): return members[name] ?? .undefined(name)
        case .namespace(let space): return space.members[name] ?? .undefined(name)
        case .undefined(let what): throw TextError("the chat template asks for .\(name) of \(what), which is undefined")
        default: return .undefined(name)
        }
    }

    private static func element(_ base: JinjaValue, _ index: JinjaValue) throws -> JinjaValue {
        switch (base, index) {
        case (.list(let items), .int(let i)):
            let at = i < 0 ? i + items.count : i
            return items.indices.contains(at) ? items[at] : .undefined("element \(i)")
        case (.string(let text), .int(let i)):
            let scalars = Array(text.unicodeScalars)
            let at = i < 0 ? i + scalars.count : i
            return scalars.indices.contains(at) ? .string(String(scalars[at])) : .undefined("character \(i)")
        default: return try member(base, index.text)
        }
    }

    /// Python's slices, negative bounds and steps included.
    private static func slice(_ base: JinjaValue, _ start: Int?, _ stop: Int?, _ step: Int) throws -> JinjaValue {
        guard step != 0, step != Int.min else { throw TextError("the chat template slices by 0") }
        func picked(_ count: Int) -> [Int] {
            let low = step > 0 ? 0 : -1
            let high = step > 0 ? count : count - 1
            func bound(_ value: Int?, _ fallback: Int) -> Int {
                guard let value else { return fallback }
                return min(max(value < 0 ? value.addingReportingOverflow(count).partialValue : value, low), high)
            }
            let from = bound(start, step > 0 ? low : high)
            return Array(stride(from: from, to: bound(stop, step > 0 ? high : low), by: step))
        }
        switch base {
        case .list(let items): return .list(picked(items.count).map { items[$0] })
        case .string(let text):
            let scalars = Array(text.unicodeScalars)
            var view = String.UnicodeScalarView()
            view.append(contentsOf: picked(scalars.count).map { scalars[$0] })
            return .string(String(view))
        default: throw TextError("the chat template slices a \(base.typeName)")
        }
    }
}
