/// Says whether a text begins as a call does that has no mark, `{"name": "f", "parameters":`, a byte at a time.
struct BareCallOpening: Sendable {
    enum Verdict { case undecided, call, text }

    private enum Token: Sendable {
        case word([UInt8])
        case string
    }

    /// What is longer than this is text.
    private static let longest = 256

    private static let openings: [[Token]] = {
        func tokens(_ words: String...) -> [Token] { words.map { $0 == "…" ? .string : .word(Array($0.utf8)) } }
        return ["parameters", "arguments"].flatMap { key in
            [
                tokens("{", "\"name\"", ":", "…", ",", "\"\(key)\"", ":"),
                tokens("{", "\"type\"", ":", "\"function\"", ",", "\"name\"", ":", "…", ",", "\"\(key)\"", ":"),
                tokens("{", "\"function\"", ":", "…", ",", "\"\(key)\"", ":"),
            ]
        }
    }()

    private struct Try: Sendable {
        let tokens: [Token]
        var token = 0
        /// Bytes of the token that have been read.
        var read = 0
        /// The string that has been read, in its quotes.
        var name: [UInt8] = []
    }

    /// nil where a call may name any tool.
    private let tools: OfferedTools?

    private var tries = Self.openings.map { Try(tokens: $0) }
    private var count = 0
    /// Several calls in a row are separated.
    private var mayBeginWithSeparator: Bool

    init(isFirst: Bool, of tools: OfferedTools? = nil) {
        mayBeginWithSeparator = !isFirst
        self.tools = tools
    }

    mutating func step(_ byte: UInt8) -> Verdict {
        count += 1
        guard count <= Self.longest else { return .text }
        if mayBeginWithSeparator, byte == UInt8(ascii: ";") || byte == UInt8(ascii: ",") {
            mayBeginWithSeparator = false
            return .undecided
        }
        tries = tries.compactMap { Self.advanced($0, byte) }
        if byte == UInt8(ascii: "{") { mayBeginWithSeparator = false }
        if let found = tries.first(where: { $0.token == $0.tokens.count }) {
            let name = String(decoding: found.name.dropFirst().dropLast(), as: UTF8.self)
            return tools?.contains(name) ?? true ? .call : .text
        }
        return tries.isEmpty ? .text : .undecided
    }

    private static func advanced(_ old: Try, _ byte: UInt8) -> Try? {
        var new = old
        if new.read == 0, byte.isSpace { return new }
        guard new.token < new.tokens.count else { return nil }
        switch new.tokens[new.token] {
        case .word(let word):
            guard byte == word[new.read] else { return nil }
            new.read += 1
            guard new.read == word.count else { return new }
        case .string:
            guard (byte == UInt8(ascii: "\"")) == (new.read == 0) || byte == UInt8(ascii: "\"") else { return nil }
            new.read += 1
            new.name.append(byte)
            guard byte == UInt8(ascii: "\""), new.read > 1 else { return new }
        }
        new.token += 1
        new.read = 0
        return new
    }
}
