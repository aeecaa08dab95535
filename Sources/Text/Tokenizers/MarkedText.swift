/// A text and where in it control tokens may be written out: what a chat template wrote itself, not what it took over from
/// a conversation.
public struct MarkedText: Sendable, Equatable {
    public let text: String
    /// Ranges of its bytes of UTF-8, in order, apart from each other.
    public let trusted: [Range<Int>]
    /// Tokens that are found in every text count as control tokens where they stand in this one: the template's own words.
    public let marks: String

    public init(text: String, trusted: [Range<Int>], marks: String = "") {
        self.text = text
        self.trusted = trusted
        self.marks = marks
    }

    /// A text that may write out control tokens anywhere.
    public init(trusting text: String) { self.init(text: text, trusted: [0..<text.utf8.count]) }
}
