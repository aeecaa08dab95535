/// What a call, a filter or a test is given.
struct JinjaCall {
    var positional: [JinjaValue] = []
    var named: [(name: String, value: JinjaValue)] = []
    /// Names that came from the request, by `**`.
    var foreignNames: Set<String> = []

    /// A name as the key of a dictionary.
    func key(_ name: String) -> JinjaKey { JinjaKey(TemplateText(name, foreign: foreignNames.contains(name))) }

    /// The arguments in the order of these parameters; a name that ends with `!` must be there.
    /// - Throws: ``TextError`` where there are others, or one twice, or too few.
    func bound(to parameters: [String], _ what: String) throws -> JinjaBound {
        guard positional.count <= parameters.count else {
            throw TextError("\(what)() takes \(parameters.count) arguments at most")
        }
        var values: [JinjaValue?] = positional
        values += [JinjaValue?](repeating: nil, count: parameters.count - positional.count)
        for (name, value) in named {
            guard let at = parameters.firstIndex(where: { $0 == name || $0 == name + "!" }), values[at] == nil else {
                throw TextError("\(what)() cannot take the argument \(name)")
            }
            values[at] = value
        }
        for (parameter, value) in zip(parameters, values) where value == nil && parameter.hasSuffix("!") {
            throw TextError("\(what)() needs the argument \(parameter.dropLast())")
        }
        return JinjaBound(values: values, what: what)
    }
}

/// Arguments in the order of their parameters.
struct JinjaBound {
    let values: [JinjaValue?]
    let what: String

    subscript(index: Int) -> JinjaValue? { index < values.count ? values[index] : nil }

    /// A text, or nil where there is none, or none said so.
    func text(_ index: Int) throws -> TemplateText? {
        switch self[index] {
        case nil, JinjaValue.none?: return nil
        case .string(let text)?: return text
        case let other?: throw TextError("\(what)() takes a string, not a \(other.typeName)")
        }
    }

    func need(_ index: Int) throws -> TemplateText {
        guard let text = try text(index) else { throw TextError("\(what)() takes a string") }
        return text
    }

    func integer(_ index: Int) throws -> Int? {
        switch self[index] {
        case nil, JinjaValue.none?: return nil
        case let value?:
            guard let integer = value.integer else {
                throw TextError("\(what)() takes an integer, not a \(value.typeName)")
            }
            return integer
        }
    }

    func isTrue(_ index: Int) -> Bool { self[index]?.isTrue ?? false }
}
