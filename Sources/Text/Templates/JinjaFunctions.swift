/// What templates can call by name.
enum JinjaFunctions {
    static let names: Set<String> = [
        "raise_exception", "namespace", "range", "strftime_now", "dict", "joiner", "cycler",
    ]
}

/// Calls: functions, methods, macros.
extension JinjaEvaluator {
    mutating func arguments(_ arguments: JinjaArguments) throws -> JinjaCall {
        var call = JinjaCall(positional: try arguments.positional.map { try value($0) })
        call.named = try arguments.named.map { (name: $0.0, value: try value($0.1)) }
        if let more = arguments.more { call.positional += try value(more).elements(budget) }
        if let more = arguments.moreNamed {
            guard case .dict(let dict) = try value(more) else { throw TextError("** takes a dictionary") }
            for (key, value) in dict.members {
                guard case .string(let name) = key.value else { throw TextError("** takes names") }
                guard !call.named.contains(where: { $0.name == name.string }) else {
                    throw TextError("the argument \(name.string) is said twice")
                }
                try budget.spend(call.named.count * 8)
                call.named.append((name.string, value))
                if name.isForeign { call.foreignNames.insert(name.string) }
            }
        }
        try budget.elements(call.positional.count + call.named.count)
        return call
    }

    mutating func call(_ callee: JinjaValue, _ call: JinjaCall) throws -> JinjaValue {
        switch callee {
        case .function(let name): return try function(name, call)
        case .method(let method): return try JinjaMethods(budget).call(method, call)
        case .macro(let macro): return .string(try self.macro(macro, call, caller: nil))
        case .joiner(let joiner):
            defer { joiner.isUsed = true }
            return .string(joiner.isUsed ? joiner.separator : "")
        case .loop: throw TextError("recursive loops are not supported")
        case .undefined(let what): throw TextError("the chat template calls something undefined: \(what)")
        default: throw TextError("the chat template calls a \(callee.typeName)")
        }
    }

    // MARK: Functions

    private func function(_ name: String, _ call: JinjaCall) throws -> JinjaValue {
        switch name {
        case "raise_exception":
            let why = try call.bound(to: ["message!"], name)[0]?.text(budget).string ?? ""
            throw TextError("the chat template refuses: \(why.prefix(1000))")
        case "strftime_now":
            let format = try call.bound(to: ["format!"], name).need(0)
            guard let text = now(format.string) else { throw TextError("strftime_now() takes no such format") }
            return .string(TemplateText(text, foreign: format.isForeign))
        case "namespace":
            var members: [String: JinjaValue] = [:]
            for (key, value) in try dict(call) {
                guard case .string(let name) = key.value, !name.string.hasPrefix("_") else {
                    throw TextError("a namespace takes names without a leading underscore")
                }
                members[name.string] = try value.member
            }
            return .namespace(JinjaNamespace(members))
        case "dict": return try budget.dict(try dict(call))
        case "joiner": return .joiner(JinjaJoiner(try call.bound(to: ["sep"], name).text(0) ?? ", "))
        case "cycler":
            guard !call.positional.isEmpty else { throw TextError("cycler() takes values") }
            return try budget.cycler(call.positional)
        default: return try range(call.positional)
        }
    }

    /// `dict(pairs, **named)`.
    private func dict(_ call: JinjaCall) throws -> JinjaMembers {
        guard call.positional.count <= 1 else { throw TextError("dict() takes one value without a name") }
        var members: JinjaMembers = [:]
        switch call.positional.first {
        case nil: break
        case .dict(let dict)?: members = dict.members
        case let pairs?:
            for pair in try pairs.elements(budget) {
                let items = try pair.elements(budget)
                guard items.count == 2 else { throw TextError("dict() takes pairs") }
                members[try JinjaKey(items[0], budget)] = items[1]
            }
        }
        for (name, value) in call.named { members[call.key(name)] = value }
        try budget.elements(2 * members.count)
        return members
    }

    private func range(_ arguments: [JinjaValue]) throws -> JinjaValue {
        let bounds = try arguments.map { value -> Int in
            guard let i = value.integer, i.magnitude <= 1_000_000 else {
                throw TextError("range() takes integers up to a million")
            }
            return i
        }
        guard (1...3).contains(bounds.count) else { throw TextError("range() takes one to three integers") }
        let (from, to) = bounds.count == 1 ? (0, bounds[0]) : (bounds[0], bounds[1])
        let by = bounds.count == 3 ? bounds[2] : 1
        guard by != 0 else { throw TextError("range() by 0") }
        try budget.elements(max(0, (to - from) / by + 1))
        return try budget.list(stride(from: from, to: to, by: by).map(JinjaValue.int), .range)
    }

    // MARK: Macros

    mutating func callBlock(_ expression: JinjaExpression, _ definition: JinjaMacroDefinition) throws {
        guard case .call(let callee, let arguments) = expression else { return }
        let caller = JinjaValue.macro(JinjaMacro(definition, try capture()))
        let function = try value(callee)
        let call = try self.arguments(arguments)
        guard case .macro(let macro) = function else { throw TextError("a call block calls a \(function.typeName)") }
        try write(try self.macro(macro, call, caller: caller))
    }

    private mutating func macro(_ macro: JinjaMacro, _ call: JinjaCall, caller: JinjaValue?) throws -> TemplateText {
        try budget.step()
        let definition = macro.definition
        let (saved, place) = (scopes, line)
        defer { scopes = saved }
        scopes = macro.scopes + [JinjaScope()]
        var call = call
        if let caller { call.named.append(("caller", caller)) }
        return try nested { evaluator in
            try evaluator.bind(definition, call)
            let text = try evaluator.text { _ = try $0.run(definition.body) }
            evaluator.line = place
            return text
        }
    }

    /// Sets a macro's parameters; defaults see those before them.
    private mutating func bind(_ definition: JinjaMacroDefinition, _ call: JinjaCall) throws {
        var named = call.named
        for (index, parameter) in definition.parameters.enumerated() {
            if index < call.positional.count {
                set(parameter.name, call.positional[index])
            } else if let at = named.firstIndex(where: { $0.name == parameter.name }) {
                set(parameter.name, named.remove(at: at).value)
            } else if let standard = parameter.standard {
                set(parameter.name, try value(standard))
            } else {
                set(parameter.name, .undefined("the parameter \(parameter.name) was not provided"))
            }
        }
        if definition.usesCaller, !definition.parameters.contains(where: { $0.name == "caller" }) {
            let at = named.firstIndex { $0.name == "caller" }
            set("caller", at.map { named.remove(at: $0).value } ?? .undefined("no caller"))
        }
        if definition.usesMoreNamed {
            var members: JinjaMembers = [:]
            for (name, value) in named { members[call.key(name)] = value }
            set("kwargs", try budget.dict(members))
        } else if let unknown = named.first {
            throw TextError("the macro \(definition.name) takes no argument \(unknown.name)")
        }
        let more = call.positional.dropFirst(definition.parameters.count)
        if definition.usesMore {
            set("varargs", try budget.list(Array(more), .tuple))
        } else if !more.isEmpty {
            throw TextError("the macro \(definition.name) takes \(definition.parameters.count) arguments at most")
        }
    }
}
