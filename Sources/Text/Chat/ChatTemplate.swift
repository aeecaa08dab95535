import Glibc
import ModelFormat

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

    /// The template of a model; nil where it has none (a base model).
    public init?(_ metadata: Metadata, tokenizer: Tokenizer) throws {
        guard let source = metadata.string("tokenizer.chat_template") else { return nil }
        func text(_ id: Int32?) -> String { id.map { tokenizer.decode([$0], special: true) } ?? "" }
        try self.init(source, bosText: text(tokenizer.bos), eosText: text(tokenizer.eos))
    }

    /// The prompt of a conversation.
    /// - Parameters:
    ///   - messages: objects with `role`, `content` and whatever else the template reads.
    ///   - tools: descriptions of functions, or none.
    ///   - addGenerationPrompt: end with the opening of the assistant's turn.
    /// - Throws: ``TextError`` where the template refuses the messages, or runs beyond its bounds.
    public func render(messages: [JSONValue], tools: [JSONValue] = [], addGenerationPrompt: Bool) throws -> String {
        var evaluator = JinjaEvaluator(
            variables: [
                "messages": JinjaValue(.array(messages)), "tools": tools.isEmpty ? .none : JinjaValue(.array(tools)),
                "add_generation_prompt": .bool(addGenerationPrompt), "bos_token": .string(bosText),
                "eos_token": .string(eosText),
            ],
            now: { format in Self.now(format) })
        return try evaluator.render(statements)
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
