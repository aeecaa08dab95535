import Glibc
import ModelFormat
import OrderedCollections

/// A model's own chat template: Jinja, from the model's metadata.
public struct ChatTemplate: Sendable {
    private let statements: [JinjaStatement]
    private let bosText: String
    private let eosText: String

    /// Reads a template. What the interpreter does not know is refused here, not while a request runs.
    /// - Throws: ``TextError``.
    public init(_ source: String, bosText: String = "", eosText: String = "") throws {
        statements = try JinjaParser.parse(source)
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

    /// The prompt of a conversation.
    /// - Parameters:
    ///   - messages: objects with `role`, `content` and whatever else the template reads.
    ///   - tools: descriptions of functions, or none.
    ///   - addGenerationPrompt: end with the opening of the assistant's turn.
    ///   - timeLimit: the longest that it may take; the template's other bounds are those of ``JinjaBudget``.
    /// - Throws: ``TextError`` where the template refuses the messages, or runs beyond its bounds.
    public func render(
        messages: [JSONValue], tools: [JSONValue] = [], addGenerationPrompt: Bool, timeLimit: Duration = .seconds(1)
    ) throws -> String {
        let budget = JinjaBudget(timeLimit: timeLimit)
        var evaluator = JinjaEvaluator(
            variables: [
                "messages": try budget.value(.array(messages)),
                "tools": tools.isEmpty ? .none : try budget.value(.array(tools)),
                "add_generation_prompt": .bool(addGenerationPrompt), "bos_token": .string(bosText),
                "eos_token": .string(eosText),
            ],
            budget: budget,
            now: { format in Self.now(format) })
        return try evaluator.render(statements)
    }

    /// A message as templates take it, its members in one order whatever the order of `more`: the role, the content, then
    /// the others as they come. Members of `more` stand in for the role and content of the same name.
    public static func message(
        role: String, content: String, more: OrderedDictionary<String, JSONValue> = [:]
    ) -> JSONValue {
        var members: OrderedDictionary<String, JSONValue> = ["role": .string(role), "content": .string(content)]
        for (key, value) in more { members[key] = value }
        return .object(members)
    }

    /// `datetime.now().strftime(format)`.
    private static func now(_ format: String) -> String {
        var moment = time(nil)
        var parts = tm()
        localtime_r(&moment, &parts)
        var buffer = [CChar](repeating: 0, count: 256)
        let count = strftime(&buffer, buffer.count, format, &parts)
        return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
