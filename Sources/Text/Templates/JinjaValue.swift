import OrderedCollections

typealias JinjaMembers = OrderedDictionary<JinjaKey, JinjaValue>

/// A value while a template runs, with Python's notions of truth, text and equality. None changes but namespaces, loops,
/// generators, joiners and cyclers. ``JinjaBudget`` makes what holds others, so that values nest to a bounded depth: what
/// walks them may recurse.
enum JinjaValue {
    /// With what is missing, in words.
    case undefined(String)
    case none
    case bool(Bool)
    case int(Int)
    case float(Double)
    case string(TemplateText)
    case list(JinjaList)
    case dict(JinjaDict)
    case generator(JinjaGenerator)
    case namespace(JinjaNamespace)
    case loop(JinjaLoopState)
    case joiner(JinjaJoiner)
    case cycler(JinjaCycler)
    case macro(JinjaMacro)
    case method(JinjaMethod)
    /// One of ``JinjaFunctions``.
    case function(String)

    static func text(_ string: String) -> JinjaValue { .string(TemplateText(string)) }

    var isUndefined: Bool { if case .undefined = self { true } else { false } }
    var isNone: Bool { if case .none = self { true } else { false } }

    var isTrue: Bool {
        switch self {
        case .undefined, .none: false
        case .bool(let b): b
        case .int(let i): i != 0
        case .float(let d): d != 0
        case .string(let s): !s.isEmpty
        case .list(let list): !list.items.isEmpty
        case .dict(let dict): !dict.members.isEmpty
        case .generator, .namespace, .loop, .joiner, .cycler, .macro, .method, .function: true
        }
    }

    var typeName: String {
        switch self {
        case .undefined: "undefined value"
        case .none: "none"
        case .bool: "boolean"
        case .int: "integer"
        case .float: "float"
        case .string: "string"
        case .list(let list): list.isTuple ? "tuple" : list.kind == .list ? "list" : "view"
        case .dict: "dictionary"
        case .generator: "generator"
        case .namespace: "namespace"
        case .loop: "loop"
        case .joiner, .cycler, .macro, .method, .function: "function"
        }
    }

    /// The value as a number, where Python would count with it.
    var number: Double? {
        switch self {
        case .bool(let b): b ? 1 : 0
        case .int(let i): Double(i)
        case .float(let d): d
        default: nil
        }
    }

    /// The value as an integer, where Python would index with it.
    var integer: Int? {
        switch self {
        case .bool(let b): b ? 1 : 0
        case .int(let i): i
        default: nil
        }
    }

    /// `str(value)`.
    func text(_ budget: JinjaBudget) throws -> TemplateText {
        switch self {
        case .undefined: return ""
        case .string(let s): return s
        default:
            var writer = JinjaWriter(budget)
            try writer.repr(self)
            return writer.text
        }
    }

    static func equal(_ a: JinjaValue, _ b: JinjaValue, _ budget: JinjaBudget) throws -> Bool {
        try budget.spend(8)
        switch (a, b) {
        case (.none, .none), (.undefined, .undefined): return true
        case (.string(let x), .string(let y)):
            guard x.count == y.count else { return false }
            try budget.spend(x.count)
            return x == y
        case (.list(let x), .list(let y)):
            guard x.items.count == y.items.count, x.kind == y.kind || x.isTuple && y.isTuple else { return false }
            return try zip(x.items, y.items).allSatisfy { try equal($0, $1, budget) }
        case (.dict(let x), .dict(let y)):
            guard x.members.count == y.members.count else { return false }
            return try x.members.allSatisfy { key, value in
                try budget.spend(key.cost)
                return try y.members[key].map { try equal(value, $0, budget) } ?? false
            }
        case (.int(let x), .int(let y)): return x == y
        default:
            if let x = a.number, let y = b.number { return x == y }
            return isSame(a, b)
        }
    }

    /// `a is b`, as far as it says anything here.
    static func isSame(_ a: JinjaValue, _ b: JinjaValue) -> Bool {
        switch (a, b) {
        case (.none, .none): true
        case (.bool(let x), .bool(let y)): x == y
        case (.int(let x), .int(let y)): x == y
        case (.string(let x), .string(let y)): x == y
        case (.namespace(let x), .namespace(let y)): x === y
        case (.generator(let x), .generator(let y)): x === y
        case (.loop(let x), .loop(let y)): x === y
        case (.joiner(let x), .joiner(let y)): x === y
        case (.cycler(let x), .cycler(let y)): x === y
        case (.macro(let x), .macro(let y)): x === y
        case (.function(let x), .function(let y)): x == y
        default: false
        }
    }

    /// The elements that a loop goes through.
    func elements(_ budget: JinjaBudget) throws -> [JinjaValue] {
        switch self {
        case .list(let list): return list.items
        case .generator(let generator): return generator.rest()
        case .dict(let dict):
            try budget.elements(dict.members.count)
            return dict.members.keys.map(\.value)
        case .string(let text):
            try budget.elements(text.cost)
            // Python walks through a text that is safe as through any other.
            var plain = text
            plain.isMarkup = false
            return plain.characters.map(JinjaValue.string)
        case .loop(let loop):
            try budget.elements(loop.items.count)
            return Array(loop.items[min(loop.index + 1, loop.items.count)...])
        case .undefined: return []
        default: throw TextError("the chat template iterates over a \(typeName)")
        }
    }
}

/// What a dictionary may have as a key. Equal numbers are one key, whatever their type.
struct JinjaKey: Hashable {
    let value: JinjaValue

    /// - Throws: ``TextError`` where Python cannot hash the value.
    init(_ value: JinjaValue, _ budget: JinjaBudget) throws {
        try Self.demandHashable(value, budget)
        self.value = value
    }

    /// Pays for the hashing, too.
    private static func demandHashable(_ value: JinjaValue, _ budget: JinjaBudget) throws {
        try budget.spend(8)
        switch value {
        case .undefined, .none, .bool, .int, .float: break
        case .string(let text): try budget.spend(text.count)
        case .list(let list) where list.isTuple: for item in list.items { try demandHashable(item, budget) }
        default: throw TextError("the chat template takes a \(value.typeName) as a key")
        }
    }

    init(_ text: TemplateText) { value = .string(text) }

    /// What comparing with it costs.
    var cost: Int { if case .string(let text) = value { text.count } else { 8 } }

    static func == (a: JinjaKey, b: JinjaKey) -> Bool { isEqual(a.value, b.value) }

    private static func isEqual(_ a: JinjaValue, _ b: JinjaValue) -> Bool {
        switch (a, b) {
        case (.list(let x), .list(let y)):
            x.items.count == y.items.count && zip(x.items, y.items).allSatisfy(isEqual)
        case (.undefined, .undefined): true
        case (.string, _), (.none, _), (.int, .int): JinjaValue.isSame(a, b)
        default: if let x = a.number, let y = b.number { x == y } else { false }
        }
    }

    func hash(into hasher: inout Hasher) { Self.hash(value, into: &hasher) }

    private static func hash(_ value: JinjaValue, into hasher: inout Hasher) {
        switch value {
        case .string(let text): hasher.combine(text)
        case .list(let list): for item in list.items { hash(item, into: &hasher) }
        default: hasher.combine(value.number)
        }
    }
}
