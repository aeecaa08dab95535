/// Attributes, elements and slices of values.
struct JinjaAccess {
    private let budget: JinjaBudget

    init(_ budget: JinjaBudget) { self.budget = budget }

    // MARK: Attributes

    /// `base.name`: what Python has as an attribute, or else an element.
    func attribute(_ base: JinjaValue, _ name: String) throws -> JinjaValue {
        if case .undefined(let what) = base {
            throw TextError("the chat template asks for .\(name) of something undefined: \(what)")
        }
        if let found = try own(base, name) { return found }
        if case .dict(let dict) = base {
            try budget.spend(name.utf8.count)
            if let found = dict.members[JinjaKey(TemplateText(name))] { return found }
        }
        return .undefined("a \(base.typeName) has no \"\(name)\"")
    }

    /// What a value has besides its elements: methods, and members of the language's own objects.
    private func own(_ base: JinjaValue, _ name: String) throws -> JinjaValue? {
        switch base {
        case .namespace(let space): return space.members[name]
        case .loop(let loop):
            return name == "cycle" || name == "changed" ? try budget.method(base, name) : loop.member(name)
        case .list(let list) where list.kind == .group && (name == "grouper" || name == "list"):
            return list.items[name == "grouper" ? 0 : 1]
        case .cycler(let cycler):
            if name == "current" { return cycler.items[cycler.at] }
            return name == "next" || name == "reset" ? try budget.method(base, name) : nil
        case .macro(let macro):
            switch name {
            case "name": return .text(macro.definition.name)
            case "caller": return .bool(macro.definition.usesCaller)
            case "catch_varargs": return .bool(macro.definition.usesMore)
            case "catch_kwargs": return .bool(macro.definition.usesMoreNamed)
            case "arguments": return try budget.list(macro.definition.parameters.map { .text($0.name) }, .tuple)
            default: return nil
            }
        case .function("dict"): return name == "fromkeys" ? try budget.method(base, name) : nil
        default:
            if JinjaMethods.changing(base).contains(name) {
                return .undefined("\(name)() would change a value")
            }
            return JinjaMethods.names(base).contains(name) ? try budget.method(base, name) : nil
        }
    }

    // MARK: Elements

    /// `base[index]`.
    func element(_ base: JinjaValue, _ index: JinjaValue) throws -> JinjaValue {
        switch (base, index) {
        case (.undefined(let what), _):
            throw TextError("the chat template asks for an element of something undefined: \(what)")
        case (.dict(let dict), _):
            if let key = try? JinjaKey(index, budget) {
                try budget.spend(key.cost)
                if let found = dict.members[key] { return found }
            }
        case (.list(let list), _) where list.isIndexed:
            if let i = index.integer {
                let at = i < 0 ? i + list.items.count : i
                return list.items.indices.contains(at) ? list.items[at] : .undefined("a list has no element \(i)")
            }
        case (.string(let text), _): if let i = index.integer { return try character(text, i) }
        default: break
        }
        if case .string(let name) = index, let found = try own(base, name.string) { return found }
        return .undefined("a \(base.typeName) has no such element")
    }

    private func character(_ text: TemplateText, _ index: Int) throws -> JinjaValue {
        try budget.text(text)
        // A character is as near to the end as it is said to be.
        let scalars = text.string.unicodeScalars
        let place =
            index < 0
            ? scalars.index(scalars.endIndex, offsetBy: index, limitedBy: scalars.startIndex)
            : scalars.index(scalars.startIndex, offsetBy: index, limitedBy: scalars.endIndex)
        guard let place, place < scalars.endIndex else { return .undefined("a string has no character \(index)") }
        let start = text.string.utf8.distance(from: text.string.startIndex, to: place)
        return .string(text.slice(start..<start + UTF8.width(scalars[place])))
    }

    // MARK: Slices

    /// Python's slices, negative bounds and steps included.
    func slice(_ base: JinjaValue, _ start: Int?, _ stop: Int?, _ step: Int) throws -> JinjaValue {
        guard step != 0 else { throw TextError("the chat template slices by 0") }
        switch base {
        case .list(let list) where list.isIndexed:
            try budget.elements(list.items.count)
            let picked = Self.picked(list.items.count, start, stop, step).map { list.items[$0] }
            return try budget.list(picked, list.kind == .group ? .tuple : list.kind)
        case .string(let text):
            try budget.text(9 * text.count + text.cost)
            let scalars = text.string.unicodeScalars
            guard step == 1 else {
                let characters = text.characters
                var out = TemplateText()
                for at in Self.picked(characters.count, start, stop, step) { out.append(characters[at]) }
                out.isMarkup = text.isMarkup
                return .string(out)
            }
            let picked = Array(Self.picked(scalars.count, start, stop, 1))
            guard let first = picked.first, let last = picked.last else { return .text("") }
            let from = scalars.index(scalars.startIndex, offsetBy: first)
            let to = scalars.index(from, offsetBy: last + 1 - first)
            let utf8 = text.string.utf8
            let start = utf8.distance(from: utf8.startIndex, to: from)
            return .string(text.slice(start..<start + utf8.distance(from: from, to: to)))
        case .undefined(let what): throw TextError("the chat template slices something undefined: \(what)")
        default: throw TextError("the chat template slices a \(base.typeName)")
        }
    }

    private static func picked(_ count: Int, _ start: Int?, _ stop: Int?, _ step: Int) -> StrideTo<Int> {
        let low = step > 0 ? 0 : -1
        let high = step > 0 ? count : count - 1
        func bound(_ value: Int?, _ fallback: Int) -> Int {
            guard let value else { return fallback }
            return min(max(value < 0 ? value + count : value, low), high)
        }
        let from = bound(start, step > 0 ? low : high)
        return stride(from: from, to: bound(stop, step > 0 ? high : low), by: min(max(step, -count - 1), count + 1))
    }
}
