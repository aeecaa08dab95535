/// Methods of values, by Python's rules. Those that would change a value are refused, as in jinja2's immutable sandbox.
struct JinjaMethods {
    private let budget: JinjaBudget

    init(_ budget: JinjaBudget) { self.budget = budget }

    private static let strings = Set(JinjaStrings.signatures.keys).union(JinjaStrings.others).union([
        "format", "format_map",
    ])
    private static let dicts: Set<String> = ["items", "keys", "values", "get", "copy", "fromkeys"]
    private static let dictsChanging: Set<String> = ["clear", "pop", "popitem", "setdefault", "update"]
    private static let lists: Set<String> = ["count", "index", "copy"]
    private static let listsChanging: Set<String> = [
        "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort",
    ]

    static func names(_ base: JinjaValue) -> Set<String> {
        switch base {
        case .string: strings
        case .dict: dicts
        case .list(let list): list.kind == .list ? lists : list.isIndexed ? ["count", "index"] : []
        case .float: ["is_integer"]
        default: []
        }
    }

    static func changing(_ base: JinjaValue) -> Set<String> {
        switch base {
        case .dict: dictsChanging
        case .list(let list) where list.kind == .list: listsChanging
        default: []
        }
    }

    func call(_ method: JinjaMethod, _ call: JinjaCall) throws -> JinjaValue {
        switch method.base {
        case .string(let text): return try JinjaStrings.call(text, method.name, call, budget)
        case .dict(let dict): return try self.dict(dict.members, method.name, call)
        case .list(let list): return try self.list(list, method.name, call)
        case .float(let value): return .bool(value == value.rounded())
        case .loop(let loop): return try self.loop(loop, method.name, call)
        case .cycler(let cycler):
            defer { cycler.at = method.name == "next" ? (cycler.at + 1) % cycler.items.count : 0 }
            return method.name == "next" ? cycler.items[cycler.at] : .none
        case .function: return try fromKeys(call)
        default: throw TextError("a \(method.base.typeName) has no method \(method.name)")
        }
    }

    private func dict(_ members: JinjaMembers, _ name: String, _ call: JinjaCall) throws -> JinjaValue {
        switch name {
        case "fromkeys": return try fromKeys(call)
        case "get":
            let arguments = try call.bound(to: ["key!", "default"], name)
            guard let key = arguments[0] else { return .none }
            return members[try JinjaKey(key, budget)] ?? arguments[1] ?? .none
        default: _ = try call.bound(to: [], name)
        }
        switch name {
        case "items":
            try budget.elements(3 * members.count)
            return try budget.list(members.map { try budget.list([$0.key.value, $0.value], .tuple) }, .items)
        case "keys":
            try budget.elements(members.count)
            return try budget.list(members.keys.map(\.value), .keys)
        case "values":
            try budget.elements(members.count)
            return try budget.list(Array(members.values), .values)
        default: return try budget.dict(members)
        }
    }

    private func fromKeys(_ call: JinjaCall) throws -> JinjaValue {
        let arguments = try call.bound(to: ["iterable!", "value"], "fromkeys")
        let keys = try arguments[0]?.elements(budget) ?? []
        try budget.elements(2 * keys.count)
        var members: JinjaMembers = [:]
        for key in keys { members[try JinjaKey(key, budget)] = arguments[1] ?? JinjaValue.none }
        return try budget.dict(members)
    }

    private func list(_ list: JinjaList, _ name: String, _ call: JinjaCall) throws -> JinjaValue {
        if name == "copy" { return .list(list) }
        guard let wanted = try call.bound(to: ["value!", "start", "stop"], name)[0] else { return .none }
        if name == "count" {
            return .int(try list.items.reduce(0) { $0 + (try JinjaValue.equal($1, wanted, budget) ? 1 : 0) })
        }
        guard let at = try list.items.firstIndex(where: { try JinjaValue.equal($0, wanted, budget) }) else {
            throw TextError("index() does not find what it looks for")
        }
        return .int(at)
    }

    private func loop(_ loop: JinjaLoopState, _ name: String, _ call: JinjaCall) throws -> JinjaValue {
        if name == "cycle" {
            guard !call.positional.isEmpty else { throw TextError("loop.cycle() takes values") }
            return call.positional[loop.index % call.positional.count]
        }
        _ = try budget.list(call.positional)
        defer { loop.last = call.positional }
        guard let last = loop.last, last.count == call.positional.count else { return .bool(true) }
        return .bool(try !zip(last, call.positional).allSatisfy { try JinjaValue.equal($0, $1, budget) })
    }
}
