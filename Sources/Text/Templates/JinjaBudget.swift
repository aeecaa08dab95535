/// What one rendering may take: steps that cost alike, bytes of values, nesting, time. A hostile template, or hostile
/// messages, end with an error; so every loop over bytes or elements says here what it does before it does it.
final class JinjaBudget {
    /// Units of work: a statement or an expression is ``stepCost``, a byte or an element that is looked at is one.
    static let workLimit = 1 << 27
    static let stepCost = 64
    /// Bytes of one text at most.
    static let textLimit = 16 << 20
    /// Bytes of values that one rendering makes, kept or not, besides eight times its input.
    static let heldLimit = 64 << 20
    /// How deep lists and dictionaries may lie in each other.
    static let depthLimit = 160
    /// Bytes that an element of a list or a dictionary takes, about.
    static let elementBytes = 64

    private let workLimit: Int
    private var work = 0
    private var nextLook = 0
    private var held = 0
    private var heldLimit = JinjaBudget.heldLimit
    private let clock = ContinuousClock()
    private let deadline: ContinuousClock.Instant

    init(timeLimit: Duration, workLimit: Int = JinjaBudget.workLimit) {
        deadline = clock.now + timeLimit
        self.workLimit = workLimit
    }

    /// Says that so much work is about to be done.
    func spend(_ units: Int) throws {
        let (sum, overflow) = work.addingReportingOverflow(max(0, units))
        guard !overflow, sum <= workLimit else { throw TextError("the chat template runs for too long") }
        work = sum
        guard work >= nextLook else { return }
        nextLook = work + 1 << 16
        guard clock.now < deadline else { throw TextError("the chat template takes too long") }
    }

    func step() throws { try spend(Self.stepCost) }

    /// Says that a text of so many bytes is about to be made; making it is work, too.
    func text(_ bytes: Int) throws {
        guard bytes <= Self.textLimit else { throw TextError("the chat template writes too much text") }
        try hold(bytes)
        try spend(bytes)
    }

    /// The same for a text that is there.
    func text(_ text: TemplateText) throws { try self.text(text.cost) }

    private func hold(_ bytes: Int) throws {
        held += bytes
        guard held <= heldLimit else { throw TextError("the chat template takes too much memory") }
    }

    /// Says that so many elements are about to be put into a list or a dictionary.
    func elements(_ count: Int) throws {
        guard count <= heldLimit / Self.elementBytes else { throw TextError("the chat template takes too much memory") }
        try hold(count * Self.elementBytes)
        try spend(count * 8)
    }

    /// A list of elements that have been paid for.
    /// - Throws: ``TextError`` where it would nest too deeply.
    func list(_ items: [JinjaValue], _ kind: JinjaList.Kind = .list) throws -> JinjaValue {
        .list(JinjaList(items: items, depth: try depth(over: items), kind: kind))
    }

    func generator(_ items: [JinjaValue]) throws -> JinjaValue {
        .generator(JinjaGenerator(items, depth: try depth(over: items)))
    }

    func dict(_ members: JinjaMembers) throws -> JinjaValue {
        .dict(
            JinjaDict(
                members: members,
                depth: max(try depth(over: members.values), try depth(over: members.keys.lazy.map(\.value)))))
    }

    func method(_ base: JinjaValue, _ name: String) throws -> JinjaValue {
        // A loop and the like may have methods, but be in no value.
        if case .loop = base { return .method(JinjaMethod(base, name, depth: Self.depthLimit)) }
        return .method(JinjaMethod(base, name, depth: try depth(over: CollectionOfOne(base))))
    }

    func cycler(_ items: [JinjaValue]) throws -> JinjaValue {
        .cycler(JinjaCycler(items, depth: try depth(over: items)))
    }

    /// How deep a value is that holds these.
    private func depth(over values: some Sequence<JinjaValue>) throws -> Int {
        var deepest = 0
        for value in values {
            switch value {
            case .list(let list): deepest = max(deepest, list.depth)
            case .dict(let dict): deepest = max(deepest, dict.depth)
            case .generator(let generator): deepest = max(deepest, generator.depth)
            case .method(let method): deepest = max(deepest, method.depth)
            case .cycler(let cycler): deepest = max(deepest, cycler.depth)
            // They could come to hold themselves.
            case .namespace, .loop: throw TextError("the chat template puts a \(value.typeName) into another value")
            default: break
            }
        }
        guard deepest < Self.depthLimit else { throw TextError("the chat template nests values too deeply") }
        return deepest + 1
    }

    /// A value of a request, which grants memory for what the template makes of it. Its texts are the request's, not the
    /// template's.
    /// - Parameter grants: false for values that the template made itself.
    func value(_ json: JSONValue, grants: Bool = true) throws -> JinjaValue {
        switch json {
        case .null: return .none
        case .bool(let b): return .bool(b)
        case .int(let i): return .int(i)
        case .double(let d): return .float(d)
        case .string(let text):
            if grants {
                heldLimit = min(heldLimit + 8 * text.utf8.count, 4 * Self.heldLimit)
            } else {
                try self.text(text.utf8.count)
            }
            return .string(TemplateText(foreign: text))
        case .array(let items):
            try elements(items.count)
            return try list(items.map { try value($0, grants: grants) })
        case .object(let object):
            try elements(2 * object.count)
            var members = JinjaMembers(minimumCapacity: object.count)
            for (key, item) in object {
                members[JinjaKey(TemplateText(foreign: key))] = try value(item, grants: grants)
            }
            return try dict(members)
        }
    }

    /// The messages of a conversation. What they call the roles that everyone knows is the template's own word: some write
    /// a control token around it (`<|user|>`).
    func messages(_ messages: [JSONValue]) throws -> JinjaValue {
        try elements(messages.count)
        return try list(
            messages.map { message in
                let value = try value(message)
                guard case .dict(let dict) = value, let role = message["role"]?.string, Self.roles.contains(role)
                else { return value }
                var members = dict.members
                members[JinjaKey("role")] = .text(role)
                return try self.dict(members)
            })
    }

    private static let roles: Set<String> = [
        "system", "developer", "user", "assistant", "tool", "function", "ipython", "observation", "model", "context",
        "documents", "environment", "tool_response", "tool_call",
    ]
}
