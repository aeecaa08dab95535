/// A list, or what Python has besides: a tuple, a range, a dictionary's keys.
struct JinjaList {
    enum Kind: Equatable {
        case list, tuple, range, keys, values, items
        /// A group of `groupby`: a tuple whose two elements also have names.
        case group
    }

    let items: [JinjaValue]
    /// How deep values lie in each other, this one included.
    let depth: Int
    let kind: Kind

    var isTuple: Bool { kind == .tuple || kind == .group }
    /// Whether its elements have numbers.
    var isIndexed: Bool { kind == .list || kind == .range || isTuple }
}

struct JinjaDict {
    let members: JinjaMembers
    let depth: Int
}

/// What can be walked through once: the result of `map`, `select` and others.
final class JinjaGenerator {
    private var items: ArraySlice<JinjaValue>
    let depth: Int

    init(_ items: [JinjaValue], depth: Int) {
        self.items = items[...]
        self.depth = depth
    }

    func next() -> JinjaValue? { items.popFirst() }

    func rest() -> [JinjaValue] {
        defer { items = [] }
        return Array(items)
    }
}

/// Its members hold no namespace, and no other value does: none can come to hold itself.
final class JinjaNamespace {
    var members: [String: JinjaValue]
    init(_ members: [String: JinjaValue]) { self.members = members }
}

/// `loop`: where a loop stands.
final class JinjaLoopState {
    let items: [JinjaValue]
    var index = 0
    /// What `loop.changed` was asked last.
    var last: [JinjaValue]?

    init(_ items: [JinjaValue]) { self.items = items }

    func member(_ name: String) -> JinjaValue? {
        switch name {
        case "index": .int(index + 1)
        case "index0": .int(index)
        case "first": .bool(index == 0)
        case "last": .bool(index == items.count - 1)
        case "length": .int(items.count)
        case "revindex": .int(items.count - index)
        case "revindex0": .int(items.count - index - 1)
        // It counts recursive loops only, and there are none.
        case "depth": .int(1)
        case "depth0": .int(0)
        case "previtem": index > 0 ? items[index - 1] : .undefined("there is no previous item")
        case "nextitem": index + 1 < items.count ? items[index + 1] : .undefined("there is no next item")
        default: nil
        }
    }
}

/// `joiner(separator)`: nothing the first time, the separator after that.
final class JinjaJoiner {
    let separator: TemplateText
    var isUsed = false
    init(_ separator: TemplateText) { self.separator = separator }
}

/// `cycler(a, b, …)`.
final class JinjaCycler {
    let items: [JinjaValue]
    let depth: Int
    var at = 0

    init(_ items: [JinjaValue], depth: Int) {
        self.items = items
        self.depth = depth
    }
}

/// The variables of a block.
final class JinjaScope {
    var values: [String: JinjaValue]
    init(_ values: [String: JinjaValue] = [:]) { self.values = values }
}

/// A macro, or the body of a `call` block, and the variables that it sees.
final class JinjaMacro {
    let definition: JinjaMacroDefinition
    let scopes: [JinjaScope]

    init(_ definition: JinjaMacroDefinition, _ scopes: [JinjaScope]) {
        self.definition = definition
        self.scopes = scopes
    }
}

/// A method of a value.
final class JinjaMethod {
    let base: JinjaValue
    let name: String
    let depth: Int

    init(_ base: JinjaValue, _ name: String, depth: Int) {
        self.base = base
        self.name = name
        self.depth = depth
    }
}
