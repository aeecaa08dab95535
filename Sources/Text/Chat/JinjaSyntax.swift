/// The syntax tree of the part of Jinja that chat templates use.
indirect enum JinjaExpression: Sendable {
    case literal(JinjaLiteral)
    case name(String)
    case list([JinjaExpression])
    case dict([(JinjaExpression, JinjaExpression)])
    case attribute(JinjaExpression, String)
    case index(JinjaExpression, JinjaExpression)
    case slice(JinjaExpression, JinjaExpression?, JinjaExpression?, JinjaExpression?)
    case call(String, JinjaArguments)
    case method(JinjaExpression, String, JinjaArguments)
    case filter(JinjaExpression, String, JinjaArguments)
    case test(JinjaExpression, String, JinjaArguments, negated: Bool)
    case unary(String, JinjaExpression)
    case binary(String, JinjaExpression, JinjaExpression)
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
        case .string(let s): .string(s)
        }
    }
}

struct JinjaArguments: Sendable {
    var positional: [JinjaExpression] = []
    var named: [(String, JinjaExpression)] = []
}

indirect enum JinjaStatement: Sendable {
    case text(String)
    case output(JinjaExpression)
    case `if`([(condition: JinjaExpression, body: [JinjaStatement])], else: [JinjaStatement])
    case `for`(JinjaLoop)
    case set([String], JinjaExpression)
    case setAttribute(String, String, JinjaExpression)
    case setBlock(String, [JinjaStatement])
    case `break`, `continue`
}

struct JinjaLoop: Sendable {
    var targets: [String]
    var items: JinjaExpression
    var condition: JinjaExpression?
    var body: [JinjaStatement]
    var otherwise: [JinjaStatement]
}

/// What templates may call; anything else is refused when the template is read.
enum JinjaLibrary {
    static let functions: Set<String> = ["raise_exception", "namespace", "range", "strftime_now"]
    static let methods: Set<String> = [
        "strip", "lstrip", "rstrip", "split", "startswith", "endswith", "upper", "lower", "title", "capitalize",
        "replace",
        "find", "join", "items", "keys", "values", "get",
    ]
    static let filters: Set<String> = [
        "trim", "length", "count", "tojson", "upper", "lower", "capitalize", "title", "replace", "join", "first",
        "last",
        "default", "d", "list", "string", "int", "float", "items", "map", "select", "reject", "selectattr",
        "rejectattr",
        "reverse", "safe", "abs", "indent",
    ]
    static let tests: Set<String> = [
        "defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence",
        "iterable",
        "true", "false", "odd", "even", "eq", "equalto", "ne", "in",
    ]
}
