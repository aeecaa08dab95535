/// Python's order of values: numbers, texts by their characters, lists by their first elements that differ.
struct JinjaOrder {
    private let budget: JinjaBudget

    init(_ budget: JinjaBudget) { self.budget = budget }

    /// -1, 0 or 1.
    /// - Throws: ``TextError`` where the two have no order.
    func compare(_ a: JinjaValue, _ b: JinjaValue) throws -> Int {
        try budget.spend(8)
        switch (a, b) {
        case (.int(let x), .int(let y)): return x < y ? -1 : x > y ? 1 : 0
        case (.string(let x), .string(let y)):
            try budget.spend(2 * min(x.count, y.count))
            // UTF-8 has the order of the characters.
            return x == y ? 0 : x.string.utf8.lexicographicallyPrecedes(y.string.utf8) ? -1 : 1
        case (.list(let x), .list(let y)) where x.kind == y.kind || x.isTuple && y.isTuple:
            for (left, right) in zip(x.items, y.items) where try !JinjaValue.equal(left, right, budget) {
                return try compare(left, right)
            }
            return x.items.count < y.items.count ? -1 : x.items.count > y.items.count ? 1 : 0
        default:
            guard let x = a.number, let y = b.number else {
                throw TextError(
                    "the chat template compares a \(a.typeName) with a \(b.typeName), which have no order")
            }
            return x < y ? -1 : x > y ? 1 : 0
        }
    }

    /// Whether `sign`, one of `<`, `>`, `<=` and `>=`, holds.
    func holds(_ sign: String, _ a: JinjaValue, _ b: JinjaValue) throws -> Bool {
        if let x = a.number, let y = b.number, x.isNaN || y.isNaN { return false }
        let order = try compare(a, b)
        switch sign {
        case "<": return order < 0
        case ">": return order > 0
        case "<=": return order <= 0
        default: return order >= 0
        }
    }

    /// `sorted(items, key=…, reverse=…)`: what is equal stays in its order.
    func sorted<Item>(
        _ items: [Item], reverse: Bool = false, by key: (Item) throws -> JinjaValue
    ) throws -> [Item] {
        let keyed = try items.enumerated().map { (place: $0.offset, key: try key($0.element), item: $0.element) }
        return try keyed.sorted { a, b in
            let order = try compare(a.key, b.key)
            return order == 0 ? a.place < b.place : reverse ? order > 0 : order < 0
        }.map(\.item)
    }

    /// The order of `pprint`, which also knows one for values that have none: that of their types' names.
    func sortedByType<Item>(_ items: [Item], by key: (Item) -> JinjaValue) throws -> [Item] {
        func rank(_ value: JinjaValue) -> Int {
            switch value {
            case .none: 0
            case .bool, .int, .float: 1
            case .string: 2
            default: 3
            }
        }
        let keyed = items.enumerated().map { (place: $0.offset, key: key($0.element), item: $0.element) }
        return try keyed.sorted { a, b in
            let (left, right) = (rank(a.key), rank(b.key))
            guard left == right else { return left < right }
            try budget.spend(8)
            // Tuples may hold what has no order; Python then goes by addresses.
            let order = left == 0 ? 0 : left == 3 ? (try? compare(a.key, b.key)) ?? 0 : try compare(a.key, b.key)
            return order == 0 ? a.place < b.place : order < 0
        }.map(\.item)
    }

    /// Whether the text, list or dictionary `whole` has the element `part`.
    func contains(_ whole: JinjaValue, _ part: JinjaValue) throws -> Bool {
        switch (whole, part) {
        case (.list(let list), _):
            // Dictionaries look for keys by their hashes.
            if list.kind == .keys { _ = try JinjaKey(part, budget) }
            return try list.items.contains { try JinjaValue.equal($0, part, budget) }
        case (.dict(let dict), _):
            let key = try JinjaKey(part, budget)
            return dict.members[key] != nil
        case (.generator(let generator), _):
            while let item = generator.next() { if try JinjaValue.equal(item, part, budget) { return true } }
            return false
        case (.string(let text), .string(let piece)):
            try budget.text(text.count + 5 * piece.count)
            return piece.isEmpty || TextSearch(piece.string).first(in: Array(text.string.utf8)) != nil
        case (.undefined, _): return false
        default:
            throw TextError(
                "the chat template asks for a \(part.typeName) in a \(whole.typeName), which is not possible")
        }
    }
}
