/// Reads the regular expressions that tokenizers use: a part of what Oniguruma and std::regex read, which needs no
/// backtracking. What is beyond is refused by name.
struct PatternParser {
    private let scalars: [Unicode.Scalar]
    private var at = 0
    private var depth = 0
    private var ignoresCase = false

    private static let depthLimit = 50
    private static let lengthLimit = 1 << 16
    /// Times that something is repeated at most.
    private static let repeatLimit = 1000

    static func parse(_ pattern: String) throws(TextError) -> PatternNode {
        guard pattern.utf8.count <= lengthLimit else {
            throw TextError("a pattern is longer than \(lengthLimit) bytes")
        }
        var parser = PatternParser(scalars: Array(pattern.unicodeScalars))
        let node = try parser.choice()
        guard parser.at == parser.scalars.count else { throw parser.error("has a ) too many") }
        return node
    }

    private init(scalars: [Unicode.Scalar]) { self.scalars = scalars }

    private func error(_ what: String) -> TextError {
        let text = String(String.UnicodeScalarView(scalars.prefix(120)))
        return TextError("the pattern \(text.debugDescription) \(what) (at character \(at + 1))")
    }

    private var next: Unicode.Scalar? { at < scalars.count ? scalars[at] : nil }

    private mutating func take(_ text: String) -> Bool {
        let wanted = text.unicodeScalars
        guard scalars[at...].starts(with: wanted) else { return false }
        at += wanted.count
        return true
    }

    private mutating func choice() throws(TextError) -> PatternNode {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.depthLimit else { throw error("is nested too deep") }
        let outerCase = ignoresCase
        defer { ignoresCase = outerCase }
        var branches = [try sequence()]
        while take("|") { branches.append(try sequence()) }
        return branches.count == 1 ? branches[0] : .choice(branches)
    }

    private mutating func sequence() throws(TextError) -> PatternNode {
        var parts: [PatternNode] = []
        while let scalar = next, scalar != "|", scalar != ")" {
            if let part = try atom() { parts.append(try repetition(part)) }
        }
        return parts.count == 1 ? parts[0] : .sequence(parts)
    }

    // MARK: Repetition

    private mutating func repetition(_ node: PatternNode) throws(TextError) -> PatternNode {
        var node = node
        while let bounds = try bounds() {
            if case .look = node { throw error("repeats a look-ahead") }
            if bounds.max == nil, node.mayBeEmpty { throw error("repeats without end what may be nothing") }
            if take("+") {
                guard let set = node.single else {
                    throw error("has a possessive quantifier over more than one character, which is not supported")
                }
                node = .possessive(set, min: bounds.min, max: bounds.max)
            } else {
                node = .repeated(node, min: bounds.min, max: bounds.max, isLazy: take("?"))
            }
        }
        return node
    }

    private mutating func bounds() throws(TextError) -> (min: Int, max: Int?)? {
        if take("*") { return (0, nil) }
        if take("+") { return (1, nil) }
        if take("?") { return (0, 1) }
        guard next == "{" else { return nil }
        let start = at
        at += 1
        let low = number()
        var high = low
        if take(",") { high = number() } else if low == nil { high = nil }
        let isOpen = scalars[at - 1] == ","
        guard low != nil || high != nil, take("}") else {
            // A brace that bounds nothing stands for itself.
            at = start
            return nil
        }
        let (min, max) = (low ?? 0, isOpen ? nil : high)
        guard min <= Self.repeatLimit, max ?? 0 <= Self.repeatLimit, max ?? min >= min else {
            throw error("has impossible bounds of a repetition")
        }
        return (min, max)
    }

    private mutating func number() -> Int? {
        var value: Int?
        while let scalar = next, ("0"..."9").contains(scalar) {
            value = min((value ?? 0) * 10 + Int(scalar.value - 0x30), 1 << 20)
            at += 1
        }
        return value
    }

    // MARK: Atoms

    /// nil for what stands for nothing, such as a change of options.
    private mutating func atom() throws(TextError) -> PatternNode? {
        guard let scalar = next else { return nil }
        switch scalar {
        case "(": return try group()
        case "[":
            at += 1
            return .scalar(try set())
        case ".":
            at += 1
            return .scalar(ScalarSet(["\n"]).inverted)
        case "$":
            at += 1
            return .look(ScalarSet(["\n"]), allowsEnd: true)
        case "^": throw error("has ^, which is not supported")
        case "*", "+", "?": throw error("repeats nothing")
        case "\\":
            at += 1
            if next == "z" || next == "Z" {
                at += 1
                return .look(ScalarSet(), allowsEnd: true)
            }
            return .scalar(try escape(inSet: false))
        default:
            at += 1
            return .scalar(cased(ScalarSet([scalar])))
        }
    }

    private func cased(_ set: ScalarSet) -> ScalarSet { ignoresCase ? set.withAllCases : set }

    private mutating func group() throws(TextError) -> PatternNode? {
        at += 1
        let outerCase = ignoresCase
        var look: Bool?
        if take("?") {
            if take("=") {
                look = true
            } else if take("!") {
                look = false
            } else if next == "<" || next == ">" || next == "P" || next == "#" {
                throw error("has a group (?\(next.map(String.init) ?? ""), which is not supported")
            } else if try options() {
                // They hold to the end of the group around them.
                return nil
            }
        }
        let node = try choice()
        ignoresCase = outerCase
        guard take(")") else { throw error("lacks a )") }
        guard let look else { return node }
        guard let set = node.single else {
            throw error("has a look-ahead over more than one character, which is not supported")
        }
        return .look(look ? set : set.inverted, allowsEnd: !look)
    }

    /// `i:`, `-i:`, `:` before a group's content, or `i)` for the rest.
    private mutating func options() throws(TextError) -> Bool {
        var isOn = true
        while let scalar = next, scalar != ":", scalar != ")" {
            switch scalar {
            case "-": isOn = false
            case "i": ignoresCase = isOn
            // `.` and line ends: `m` and `s` matter only where a pattern has `.`, `u` is how all is read.
            case "u": break
            default: throw error("has the option \(scalar), which is not supported")
            }
            at += 1
        }
        guard let end = next else { throw error("lacks a )") }
        at += 1
        return end == ")"
    }

    // MARK: Sets

    /// What follows `[`.
    private mutating func set() throws(TextError) -> ScalarSet {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.depthLimit else { throw error("is nested too deep") }
        let isNegated = take("^")
        var whole: ScalarSet?
        var ranges: [ClosedRange<UInt32>] = []
        var isFirst = true
        while let scalar = next {
            if scalar == "]", !isFirst { break }
            isFirst = false
            if take("&&") {
                whole = whole.map { $0.intersection(ScalarSet(ranges)) } ?? ScalarSet(ranges)
                ranges = []
                continue
            }
            if scalar == "[" {
                if at + 1 < scalars.count, scalars[at + 1] == ":" { throw error("has a POSIX class") }
                at += 1
                ranges += try set().ranges
                continue
            }
            ranges += try member().ranges
        }
        guard take("]") else { throw error("lacks a ]") }
        let own = cased(ScalarSet(ranges))
        let set = whole?.intersection(own) ?? own
        return isNegated ? set.inverted : set
    }

    /// A character, a range of them, or an escape that is a set.
    private mutating func member() throws(TextError) -> ScalarSet {
        let low = try element()
        guard let first = low.ranges.first, low.count == 1, next == "-", at + 1 < scalars.count, scalars[at + 1] != "]"
        else { return low }
        at += 1
        let high = try element()
        guard high.count == 1, let last = high.ranges.first, first.lowerBound <= last.lowerBound else {
            throw error("has an impossible range")
        }
        return ScalarSet([first.lowerBound...last.lowerBound])
    }

    private mutating func element() throws(TextError) -> ScalarSet {
        guard let scalar = next else { throw error("lacks a ]") }
        at += 1
        return scalar == "\\" ? try escape(inSet: true) : ScalarSet([scalar])
    }

    /// What follows a backslash.
    private mutating func escape(inSet: Bool) throws(TextError) -> ScalarSet {
        guard let scalar = next else { throw error("ends with a backslash") }
        at += 1
        switch scalar {
        case "n": return ScalarSet(["\n"])
        case "r": return ScalarSet(["\r"])
        case "t": return ScalarSet(["\t"])
        case "f": return ScalarSet(["\u{c}"])
        case "v": return ScalarSet(["\u{b}"])
        case "0": return ScalarSet(["\0"])
        case "s": return UnicodeSets.whitespace
        case "S": return UnicodeSets.whitespace.inverted
        case "d": return try named("Nd")
        case "D": return try named("Nd").inverted
        case "w": return try word()
        case "W": return try word().inverted
        case "p": return try property()
        case "P": return try property().inverted
        case "x", "u": return try hexadecimal(digits: scalar == "x" ? 2 : 4)
        default: break
        }
        guard !scalar.properties.isAlphabetic, !("1"..."9").contains(scalar) else {
            throw error("has \\\(scalar), which is not supported")
        }
        return inSet ? ScalarSet([scalar]) : cased(ScalarSet([scalar]))
    }

    private func word() throws(TextError) -> ScalarSet {
        try named("L").union(named("M")).union(named("N")).union(named("Pc"))
    }

    private func named(_ name: String) throws(TextError) -> ScalarSet {
        if name == "Alphabetic" { return UnicodeSets.alphabetic }
        guard let set = UnicodeSets.category(name) ?? UnicodeSets.script(name) else {
            throw error("has the property \(name), which is not supported")
        }
        return set
    }

    private mutating func property() throws(TextError) -> ScalarSet {
        guard take("{") else {
            guard let scalar = next else { throw error("ends in a property") }
            at += 1
            return try named(String(scalar))
        }
        let isNegated = take("^")
        var name = ""
        while let scalar = next, scalar != "}", name.utf8.count <= 40 {
            name.unicodeScalars.append(scalar)
            at += 1
        }
        guard take("}") else { throw error("has a property without a }") }
        for prefix in ["Script=", "sc=", "General_Category=", "gc="] where name.hasPrefix(prefix) {
            name.removeFirst(prefix.count)
        }
        let set = try named(name)
        return isNegated ? set.inverted : set
    }

    private mutating func hexadecimal(digits: Int) throws(TextError) -> ScalarSet {
        let isBraced = take("{")
        var value: UInt32 = 0
        var count = 0
        while let scalar = next, count < (isBraced ? 6 : digits), let digit = Character(scalar).hexDigitValue {
            value = value << 4 | UInt32(digit)
            count += 1
            at += 1
        }
        guard count > 0, !isBraced || take("}"), let scalar = Unicode.Scalar(value) else {
            throw error("has an impossible character number")
        }
        return cased(ScalarSet([scalar]))
    }
}
