import Glibc
import ModelFormat
import OrderedCollections

/// A model's own chat template: Jinja, from the model's metadata.
public struct ChatTemplate: Sendable {
    private let nodes: [JinjaNode]
    private let source: String
    private let bosText: String
    private let eosText: String

    /// Reads a template. What the interpreter does not know is refused here, not while a request runs.
    /// - Throws: ``TextError``.
    public init(_ source: String, bosText: String = "", eosText: String = "") throws {
        nodes = try JinjaParser.parse(source)
        self.source = source
        self.bosText = bosText
        self.eosText = eosText
    }

    /// The template of a model: nil where it has none (a base model), and nil with the reason where it has one that cannot be
    /// used, since a model without one still continues prompts.
    public static func read(_ metadata: Metadata, tokenizer: Tokenizer) -> (template: ChatTemplate?, problem: String?) {
        guard let source = metadata.string("tokenizer.chat_template") else { return (nil, nil) }
        func text(_ id: Int32?) -> String { id.map { tokenizer.decode([$0], special: true) } ?? "" }
        do {
            return (try ChatTemplate(source, bosText: text(tokenizer.bos), eosText: text(tokenizer.eos)), nil)
        } catch {
            return (nil, "\(error)")
        }
    }

    /// The prompt of a conversation, which knows what in it the template wrote: only there its control tokens are ones.
    /// - Parameters:
    ///   - messages: objects with `role`, `content` and whatever else the template reads.
    ///   - tools: descriptions of functions, or none.
    ///   - variables: what else the template may read (`enable_thinking`, `reasoning_effort`, …).
    ///   - addGenerationPrompt: end with the opening of the assistant's turn.
    ///   - timeLimit: the longest that it may take; the template's other bounds are those of ``JinjaBudget``.
    ///   - moment: seconds since 1970 that the template takes for now; nil is the clock's time.
    /// - Throws: ``TextError`` where the template refuses the messages, or runs beyond its bounds.
    public func prompt(
        messages: [JSONValue], tools: [JSONValue] = [], variables: OrderedDictionary<String, JSONValue> = [:],
        addGenerationPrompt: Bool, timeLimit: Duration = .seconds(1), moment: Int? = nil
    ) throws -> MarkedText {
        try prompt(
            messages: messages, tools: tools, variables: variables, addGenerationPrompt: addGenerationPrompt,
            budget: JinjaBudget(timeLimit: timeLimit), moment: moment)
    }

    /// What the template makes of a small conversation that is made up to learn of it; nil where it refuses it. What it finds
    /// is kept: the work decides when it ends, not how busy the machine is.
    func probed(
        messages: [JSONValue], tools: [JSONValue] = [], variables: OrderedDictionary<String, JSONValue> = [:],
        addGenerationPrompt: Bool
    ) -> String? {
        let budget = JinjaBudget(timeLimit: .seconds(30), workLimit: Self.probeWork)
        return try? prompt(
            messages: messages, tools: tools, variables: variables, addGenerationPrompt: addGenerationPrompt,
            budget: budget, moment: 0
        ).text
    }

    /// What the template writes between an assistant's answer and what its user says next: what ends a turn;
    /// nil where it refuses such a conversation.
    public var turnEnd: String? {
        let answer = "ebbANSWER"
        let messages = [("user", "q"), ("assistant", answer), ("user", "ebbNEXT")].map {
            Self.message(role: $0.0, content: $0.1)
        }
        guard let text = probed(messages: messages, addGenerationPrompt: false) else { return nil }
        let bytes = Array(text.utf8)
        guard let start = TextSearch(answer).first(in: bytes)?.upperBound else { return nil }
        let end = TextSearch("ebbNEXT").first(in: bytes, from: start)?.lowerBound ?? bytes.count
        return String(decoding: bytes[start..<end], as: UTF8.self)
    }

    /// Some tens of milliseconds; an eighth of it is enough for all of llama.cpp's templates.
    private static let probeWork = 1 << 22

    private func prompt(
        messages: [JSONValue], tools: [JSONValue], variables: OrderedDictionary<String, JSONValue>,
        addGenerationPrompt: Bool, budget: JinjaBudget, moment: Int?
    ) throws -> MarkedText {
        var known: [String: JinjaValue] = [
            "messages": try budget.messages(messages),
            "tools": tools.isEmpty ? .none : try budget.value(.array(tools)), "documents": .none,
            "add_generation_prompt": .bool(addGenerationPrompt), "bos_token": .text(bosText),
            "eos_token": .text(eosText),
        ]
        try budget.elements(variables.count)
        for (name, value) in variables { known[name] = try budget.value(value) }
        var evaluator = JinjaEvaluator(
            variables: known, budget: budget, now: { format in Self.formatted(format, moment ?? Glibc.time(nil)) })
        let text = try evaluator.render(nodes)
        return MarkedText(text: text.string, trusted: text.written, marks: source)
    }

    /// The same as a plain text.
    public func render(
        messages: [JSONValue], tools: [JSONValue] = [], variables: OrderedDictionary<String, JSONValue> = [:],
        addGenerationPrompt: Bool, timeLimit: Duration = .seconds(1), moment: Int? = nil
    ) throws -> String {
        try prompt(
            messages: messages, tools: tools, variables: variables, addGenerationPrompt: addGenerationPrompt,
            timeLimit: timeLimit, moment: moment
        ).text
    }

    /// Whether these words stand in the template's source.
    func mentions(_ words: String) -> Bool { TextSearch(words).first(in: Array(source.utf8)) != nil }

    /// A message as templates take it, its members in one order whatever the order of `more`: the role, the content, then
    /// the others as they come. Members of `more` stand in for the role and content of the same name.
    public static func message(
        role: String, content: JSONValue, more: OrderedDictionary<String, JSONValue> = [:]
    ) -> JSONValue {
        var members: OrderedDictionary<String, JSONValue> = ["role": .string(role), "content": content]
        for (key, value) in more { members[key] = value }
        return .object(members)
    }

    public static func message(
        role: String, content: String, more: OrderedDictionary<String, JSONValue> = [:]
    ) -> JSONValue {
        message(role: role, content: .string(content), more: more)
    }

    /// What `variables` cannot name: conversations, tools and options have ways of their own, and the tokens are the model's.
    public static let ownVariables: Set<String> = [
        "messages", "tools", "add_generation_prompt", "bos_token", "eos_token",
    ]

    /// `datetime.fromtimestamp(moment).strftime(format)`; nil where that is too long.
    private static func formatted(_ format: String, _ moment: Int) -> String? {
        guard !format.isEmpty else { return "" }
        var moment = moment
        var parts = tm()
        localtime_r(&moment, &parts)
        var buffer = [CChar](repeating: 0, count: 1024)
        let count = strftime(&buffer, buffer.count, format, &parts)
        guard count > 0 else { return nil }
        return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
