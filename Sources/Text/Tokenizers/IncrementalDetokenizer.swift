/// Turns tokens into text as they come, and never gives out half a character.
public struct IncrementalDetokenizer: Sendable {
    private let tokenizer: Tokenizer
    private var pending: [UInt8] = []
    private var dropsSpace: Bool

    /// - Parameter isWholeText: the tokens are a text from its beginning, whose added first space is taken off, and do not
    ///   continue another text (as a model's answer does).
    public init(_ tokenizer: Tokenizer, isWholeText: Bool = false) {
        self.tokenizer = tokenizer
        dropsSpace = isWholeText && tokenizer.addsFirstSpace
    }

    /// The text that this token completes; empty while a character is incomplete.
    public mutating func append(_ id: Int32) -> String {
        let bytes = tokenizer.bytes(of: id)
        pending += dropsSpace && bytes.first == 0x20 ? bytes.dropFirst() : bytes[...]
        if !bytes.isEmpty { dropsSpace = false }
        let whole = pending.count - Self.incompleteTail(pending)
        defer { pending.removeFirst(whole) }
        return String(decoding: pending[..<whole], as: UTF8.self)
    }

    /// What is left at the end: an unfinished character becomes U+FFFD.
    public mutating func finish() -> String {
        defer { pending = [] }
        return String(decoding: pending, as: UTF8.self)
    }

    /// How many bytes at the end may still become a character.
    static func incompleteTail(_ bytes: [UInt8]) -> Int {
        for back in 1...3 where back <= bytes.count {
            let byte = bytes[bytes.count - back]
            if byte & 0xc0 == 0x80 { continue }
            let needed =
                byte >= 0xf0 && byte < 0xf5 ? 4 : byte >= 0xe0 && byte < 0xf0 ? 3 : byte >= 0xc2 && byte < 0xe0 ? 2 : 1
            return needed > back ? back : 0
        }
        return 0
    }
}
