/// Filters of lists and dictionaries.
struct JinjaSequenceFilters {
    private let budget: JinjaBudget

    init(_ budget: JinjaBudget) { self.budget = budget }

    func apply(_ name: String, _ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue? {
        switch name {
        case "length", "count": return .int(try length(value))
        case "first":
            if case .generator(let generator) = value {
                return generator.next() ?? .undefined("there is no first item")
            }
            return try value.elements(budget).first ?? .undefined("there is no first item")
        case "last":
            if case .generator = value { throw TextError("a generator has no last item") }
            return try value.elements(budget).last ?? .undefined("there is no last item")
        case "random": return try random(value)
        case "list": return try budget.list(try elements(value))
        case "items":
            guard !value.isUndefined else { return try budget.generator([]) }
            guard case .dict = value else { throw TextError("items takes a dictionary, not a \(value.typeName)") }
            return try budget.generator(try pairs(value))
        case "reverse": return try reverse(value)
        case "join": return try join(value, arguments)
        case "dictsort": return try sortedPairs(value, arguments)
        case "sort":
            let key = try keys(arguments[2], caseSensitive: arguments.isTrue(1))
            let sorted = try JinjaOrder(budget).sorted(try elements(value), reverse: arguments.isTrue(0)) {
                try budget.list(try key($0))
            }
            return try budget.list(sorted)
        case "unique": return try unique(value, arguments)
        case "min", "max": return try extreme(value, arguments, isMax: name == "max")
        case "groupby": return try grouped(value, arguments)
        case "sum": return try sum(value, arguments)
        case "batch": return try batch(value, arguments)
        case "slice": return try slices(value, arguments)
        default: return nil
        }
    }

    /// The elements of a value, paid for as a new list.
    private func elements(_ value: JinjaValue) throws -> [JinjaValue] {
        let items = try value.elements(budget)
        try budget.elements(items.count)
        return items
    }

    func length(_ value: JinjaValue) throws -> Int {
        switch value {
        case .string(let text):
            try budget.spend(text.count)
            return JinjaStrings.length(text)
        case .undefined: return 0
        case .list(let list): return list.items.count
        case .dict(let dict): return dict.members.count
        case .loop(let loop): return loop.items.count
        default: throw TextError("a \(value.typeName) has no length")
        }
    }

    private func pairs(_ value: JinjaValue) throws -> [JinjaValue] {
        guard case .dict(let dict) = value else { throw TextError("a \(value.typeName) has no items") }
        try budget.elements(3 * dict.members.count)
        return try dict.members.map { try budget.list([$0.key.value, $0.value], .tuple) }
    }

    /// An element, which one nobody knows.
    private func random(_ value: JinjaValue) throws -> JinjaValue {
        guard try length(value) > 0 else { return .undefined("there is no random item") }
        switch value {
        case .list(let list) where list.isIndexed: return list.items.randomElement() ?? .none
        case .string: return try value.elements(budget).randomElement() ?? .none
        default: throw TextError("random takes a list, not a \(value.typeName)")
        }
    }

    private func reverse(_ value: JinjaValue) throws -> JinjaValue {
        guard case .string(let text) = value else {
            if case .undefined = value { return try budget.generator([]) }
            return try budget.generator(try elements(value).reversed())
        }
        try budget.text(5 * text.cost)
        try budget.elements(text.count)
        var out = TemplateText()
        for character in text.characters.reversed() { out.append(character) }
        return .string(out)
    }

    private func join(_ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        var items = value
        if let attribute = arguments[1], !attribute.isNone {
            let key = try JinjaAttribute(attribute, budget)
            items = try budget.list(try elements(value).map { try key.of($0) })
        }
        var separator = try arguments[0]?.text(budget) ?? ""
        separator.isMarkup = false
        return .string(try JinjaStringSearch.join(items, separator, strict: false, budget))
    }

    // MARK: Order

    private func folded(_ value: JinjaValue, _ caseSensitive: Bool) throws -> JinjaValue {
        guard !caseSensitive, case .string(let text) = value else { return value }
        try budget.text(text)
        return .string(JinjaStrings.lower(text))
    }

    /// What values are sorted by: themselves, or attributes with commas between them.
    private func keys(_ attribute: JinjaValue?, caseSensitive: Bool) throws -> (JinjaValue) throws -> [JinjaValue] {
        var attributes: [JinjaAttribute] = []
        if case .string(let names)? = attribute {
            attributes = try names.string.split(separator: ",", omittingEmptySubsequences: false).map {
                try JinjaAttribute(.text(String($0)), budget)
            }
        } else {
            attributes = [try JinjaAttribute(attribute ?? .none, budget)]
        }
        return { item in try attributes.map { try folded(try $0.of(item), caseSensitive) } }
    }

    private func sortedPairs(_ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        let by = try arguments.text(1)?.string ?? "key"
        guard by == "key" || by == "value" else { throw TextError("dictsort sorts by \"key\" or \"value\"") }
        let sorted = try JinjaOrder(budget).sorted(try pairs(value), reverse: arguments.isTrue(2)) { pair in
            guard case .list(let list) = pair else { return pair }
            return try folded(list.items[by == "key" ? 0 : 1], arguments.isTrue(0))
        }
        return try budget.list(sorted)
    }

    private func unique(_ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        let attribute = try JinjaAttribute(arguments[1] ?? .none, budget)
        var seen: Set<JinjaKey> = []
        let found = try elements(value).filter { item in
            let key = try JinjaKey(try folded(try attribute.of(item), arguments.isTrue(0)), budget)
            try budget.spend(key.cost)
            return seen.insert(key).inserted
        }
        return try budget.generator(found)
    }

    private func extreme(_ value: JinjaValue, _ arguments: JinjaBound, isMax: Bool) throws -> JinjaValue {
        let attribute = try JinjaAttribute(arguments[1] ?? .none, budget)
        var best: (item: JinjaValue, key: JinjaValue)?
        for item in try elements(value) {
            let key = try folded(try attribute.of(item), arguments.isTrue(0))
            guard let current = best else {
                best = (item, key)
                continue
            }
            let order = try JinjaOrder(budget).compare(key, current.key)
            if isMax ? order > 0 : order < 0 { best = (item, key) }
        }
        return best?.item ?? .undefined("an empty list has no \(isMax ? "max" : "min")")
    }

    private func grouped(_ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        let attribute = try JinjaAttribute(arguments[0] ?? .none, budget, default: arguments[1])
        let items = try elements(value)
        let keyed = try items.map { (try folded(try attribute.of($0), arguments.isTrue(2)), $0) }
        let sorted = try JinjaOrder(budget).sorted(keyed) { $0.0 }
        var groups: [(key: JinjaValue, items: [JinjaValue])] = []
        for (key, item) in sorted {
            if let last = groups.last, try JinjaValue.equal(last.key, key, budget) {
                groups[groups.count - 1].items.append(item)
            } else {
                groups.append((key, [item]))
            }
        }
        try budget.elements(3 * groups.count + items.count)
        return try budget.list(
            try groups.map { group in
                let key =
                    arguments.isTrue(2) ? group.key : try group.items.first.map { try attribute.of($0) } ?? group.key
                return try budget.list([key, try budget.list(group.items)], .group)
            })
    }

    private func sum(_ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        let attribute = try JinjaAttribute(arguments[0] ?? .none, budget)
        let start = arguments[1] ?? .int(0)
        if case .string = start { throw TextError("sum adds no strings") }
        return try elements(value).reduce(start) { try JinjaArithmetic(budget).apply("+", $0, try attribute.of($1)) }
    }

    // MARK: Pieces

    private func batch(_ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        let size = try arguments.integer(0) ?? 0
        let items = try elements(value)
        var found: [JinjaValue] = []
        // No piece comes to have no element, or fewer: all are in one, behind an empty one that had.
        guard size > 0 else {
            if items.isEmpty { return try budget.generator([]) }
            if size == 0 { found.append(try budget.list([])) }
            return try budget.generator(found + [try budget.list(items)])
        }
        for start in stride(from: 0, to: items.count, by: size) {
            var piece = Array(items[start..<min(items.count, start + min(size, items.count))])
            if let fill = arguments[1], !fill.isNone, piece.count < size {
                try budget.elements(size)
                piece += [JinjaValue](repeating: fill, count: size - piece.count)
            }
            found.append(try budget.list(piece))
        }
        try budget.elements(found.count)
        return try budget.generator(found)
    }

    private func slices(_ value: JinjaValue, _ arguments: JinjaBound) throws -> JinjaValue {
        let count = try arguments.integer(0) ?? 0
        guard count != 0 else { throw TextError("slice takes a number that is not 0") }
        let items = try elements(value)
        guard count > 0 else { return try budget.generator([]) }
        try budget.elements(count)
        var found: [JinjaValue] = []
        var start = 0
        for index in 0..<count {
            let end = start + items.count / count + (index < items.count % count ? 1 : 0)
            var piece = Array(items[start..<end])
            if let fill = arguments[1], !fill.isNone, index >= items.count % count { piece.append(fill) }
            found.append(try budget.list(piece))
            start = end
        }
        return try budget.generator(found)
    }
}
