/// What a part of an answer is.
public enum AnswerChannel: Sendable, Hashable { case answer, thinking, toolCall }

/// A call of a tool that a model wrote, complete.
public struct ToolCall: Sendable, Hashable {
    public let name: String
    /// A JSON object, as text.
    public let arguments: String
    /// What the model calls it, or empty.
    public let id: String

    public init(name: String, arguments: String, id: String = "") {
        self.name = name
        self.arguments = arguments
        self.id = id
    }
}

/// A part of an answer: text of one channel (marks are not in it), and the call that became complete with it.
public struct ChannelPiece: Sendable, Hashable {
    public var channel: AnswerChannel
    public var text: String
    public var call: ToolCall?

    public init(channel: AnswerChannel, text: String, call: ToolCall? = nil) {
        self.channel = channel
        self.text = text
        self.call = call
    }
}
