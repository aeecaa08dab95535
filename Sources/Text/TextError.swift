/// What is wrong with a tokenizer, a template or a text, in a sentence.
public struct TextError: Error, CustomStringConvertible, Sendable {
    public let description: String
    public init(_ description: String) { self.description = description }
}
