/// The syntax tree of a template.
indirect enum JinjaExpression: Sendable {
    case literal(JinjaLiteral)
    case name(String)
    case list([JinjaExpression])
    case tuple([JinjaExpression])
    case dict([(JinjaExpression, JinjaExpression)])
    case attribute(JinjaExpression, String)
    case index(JinjaExpression, JinjaExpression)
    case slice(JinjaExpression, JinjaExpression?, JinjaExpression?, JinjaExpression?)
    case call(JinjaExpression, JinjaArguments)
    case filter(JinjaExpression, JinjaFilterCall)
    case test(JinjaExpression, String, JinjaArguments, negated: Bool)
    case unary(String, JinjaExpression)
    case binary(String, JinjaExpression, JinjaExpression)
    /// `a < b <= c`: each of the others with the sign before it.
    case comparison(JinjaExpression, [(sign: String, JinjaExpression)])
    case conditional(JinjaExpression, if: JinjaExpression, else: JinjaExpression?)
}

enum JinjaLiteral: Sendable {
    case none, bool(Bool), int(Int), float(Double), string(String)

    var value: JinjaValue {
        switch self {
        case .none: .none
        case .bool(let b): .bool(b)
        case .int(let i): .int(i)
        case .float(let d): .float(d)
        case .string(let s): .text(s)
        }
    }
}

struct JinjaArguments: Sendable {
    var positional: [JinjaExpression] = []
    var named: [(String, JinjaExpression)] = []
    /// `*list` and `**dictionary`.
    var more: JinjaExpression?
    var moreNamed: JinjaExpression?
}

struct JinjaFilterCall: Sendable {
    var name: String
    var arguments: JinjaArguments
}

/// What may stand left of `=`.
indirect enum JinjaTarget: Sendable {
    case name(String)
    case attribute(String, String)
    case tuple([JinjaTarget])
}

/// A statement and the line on which it begins.
struct JinjaNode: Sendable {
    var line: Int
    var statement: JinjaStatement
}

indirect enum JinjaStatement: Sendable {
    case text(String)
    case output(JinjaExpression)
    case `if`([JinjaBranch], else: [JinjaNode])
    case `for`(JinjaFor)
    case set(JinjaTarget, JinjaExpression)
    case setBlock(JinjaTarget, [JinjaFilterCall], [JinjaNode])
    case macro(JinjaMacroDefinition)
    /// A call whose callee may call the block back as `caller`.
    case call(JinjaExpression, JinjaMacroDefinition)
    case filter([JinjaFilterCall], [JinjaNode])
    case with([(JinjaTarget, JinjaExpression)], [JinjaNode])
    /// A block that is a scope and no more.
    case block([JinjaNode])
    case `break`, `continue`
}

struct JinjaBranch: Sendable {
    var line: Int
    var condition: JinjaExpression
    var body: [JinjaNode]
}

struct JinjaFor: Sendable {
    var target: JinjaTarget
    var items: JinjaExpression
    var condition: JinjaExpression?
    var body: [JinjaNode]
    var otherwise: [JinjaNode]
}

final class JinjaMacroDefinition: Sendable {
    let name: String
    let parameters: [(name: String, standard: JinjaExpression?)]
    let body: [JinjaNode]
    /// Whether the body speaks of these; a macro takes them only then.
    let usesCaller: Bool
    let usesMore: Bool
    let usesMoreNamed: Bool

    init(
        name: String, parameters: [(name: String, standard: JinjaExpression?)], body: [JinjaNode], names: Set<String>
    ) {
        self.name = name
        self.parameters = parameters
        self.body = body
        usesCaller = names.contains("caller")
        usesMore = names.contains("varargs")
        usesMoreNamed = names.contains("kwargs")
    }
}
