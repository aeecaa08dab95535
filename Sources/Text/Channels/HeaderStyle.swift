/// How messages of an answer begin, where a model writes several: a header that says to whom, which is no text.
struct HeaderStyle: Sendable, Equatable {
    enum Destination: Equatable {
        case answer, thinking
        case call(String)
    }

    /// What begins a header.
    var opens: [String]
    /// What ends it.
    var end: String
    /// What a prompt ends with whose answer begins within a header.
    var promptEnds: [String]
    /// What ends a message.
    var messageEnds: [String] = []
    /// Words that a header may have beside a recipient.
    var words: [String] = []
    /// Those of them that say that the message is thinking.
    var thinkingWords: [String] = []
    /// What stands before a recipient.
    var recipient: String
    /// Recipients that are no tools, and what goes to them.
    var people: [String: AnswerChannel] = [:]
    /// The message itself marks its call.
    var marksCalls = false

    /// Headers are short: what is longer is text.
    static let longest = 256

    /// Where a message goes; nil where this is no header.
    func destination(_ header: some StringProtocol) -> Destination? {
        var rest = Substring(header)
        var isThinking = false
        var name = ""
        while true {
            rest = rest.drop { $0 == " " }
            if rest.isEmpty { break }
            if let word = words.first(where: rest.hasPrefix) {
                isThinking = isThinking || thinkingWords.contains(word)
                rest = rest.dropFirst(word.count)
            } else if rest.hasPrefix(recipient), name.isEmpty {
                rest = rest.dropFirst(recipient.count)
                name = String(rest.prefix { $0 != " " && $0 != "<" })
                rest = rest.dropFirst(name.count)
                guard CallReading.isName(name) else { return nil }
            } else {
                return nil
            }
        }
        if let channel = people[name] { return channel == .thinking ? .thinking : .answer }
        if name.isEmpty || marksCalls { return isThinking ? .thinking : recipient.isEmpty ? nil : .answer }
        return .call(CallReading.withoutNamespace(name))
    }
}
