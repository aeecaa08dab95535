import Engine
import Text

/// Text of an answer that can be given out.
struct AnswerPart: Sendable {
    var text: String
    var channel = AnswerChannel.answer
    /// The call that became complete with it, and its number among those of the answer.
    var call: (number: Int, call: ToolCall)?
}

/// Turns the tokens of an answer into its text, up to a stop text, and tells its channels apart where that is asked for.
struct AnswerText {
    private let tokenizer: Tokenizer
    private var detokenizer: IncrementalDetokenizer
    private var filter: StopFilter
    private var channels: ChannelReader?
    private var calls = 0

    /// - Parameter channels: nil where all text is the answer.
    init(_ tokenizer: Tokenizer, stop: [String], channels: ChannelReader? = nil) {
        self.tokenizer = tokenizer
        detokenizer = IncrementalDetokenizer(tokenizer)
        filter = StopFilter(stop)
        self.channels = channels
    }

    /// Whether a stop text has come; it is not part of the answer.
    var hasStopped: Bool { filter.hasStopped }

    /// The text that a token makes ready to be given out.
    mutating func append(_ token: Int32) -> [AnswerPart] {
        if let name = tokenizer.hiddenText(of: token) { return parts(filter.append(name, isPrinted: false)) }
        return parts(filter.append(detokenizer.append(token)))
    }

    /// The rest: an unfinished character, and what might have become a stop text or a mark.
    mutating func finish() -> [AnswerPart] {
        var last = parts(filter.append(detokenizer.finish())) + parts(filter.finish())
        for piece in channels?.finish() ?? [] { last.append(part(piece)) }
        return last
    }

    private mutating func parts(_ runs: [StopFilter.Run]) -> [AnswerPart] {
        guard channels != nil else {
            let text = runs.printed
            return text.isEmpty ? [] : [AnswerPart(text: text)]
        }
        var found: [AnswerPart] = []
        for run in runs {
            for piece in channels?.append(run.text, isPrinted: run.isPrinted) ?? [] { found.append(part(piece)) }
        }
        return found
    }

    private mutating func part(_ piece: ChannelPiece) -> AnswerPart {
        var part = AnswerPart(text: piece.text, channel: piece.channel)
        if let call = piece.call {
            part.call = (calls, call)
            calls += 1
        }
        return part
    }
}
