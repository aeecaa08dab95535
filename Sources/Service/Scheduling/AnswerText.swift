import Engine
import Text

/// Turns the tokens of an answer into its text, up to a stop text.
struct AnswerText {
    private let tokenizer: Tokenizer
    private var detokenizer: IncrementalDetokenizer
    private var filter: StopFilter

    init(_ tokenizer: Tokenizer, stop: [String]) {
        self.tokenizer = tokenizer
        detokenizer = IncrementalDetokenizer(tokenizer)
        filter = StopFilter(stop)
    }

    /// Whether a stop text has come; it is not part of the answer.
    var hasStopped: Bool { filter.hasStopped }

    /// The text that a token makes ready to be given out.
    mutating func append(_ token: Int32) -> String {
        if let name = tokenizer.hiddenText(of: token) { return filter.append(name, isPrinted: false) }
        return filter.append(detokenizer.append(token))
    }

    /// The rest: an unfinished character, and what might have become a stop text.
    mutating func finish() -> String {
        let last = filter.append(detokenizer.finish())
        return last + filter.finish()
    }
}
