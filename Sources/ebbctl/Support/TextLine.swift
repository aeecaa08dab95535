import Conversion
import Glibc
import Text

extension TextLines {
    /// Lines of standard input.
    static func standardInput() -> TextLines { TextLines(STDIN_FILENO, name: "standard input") }
}

/// A line of the tokenize and score filters: a text, or token ids. Where both stand the text counts, so that a file of
/// references can be fed as it is.
struct TextLine: Decodable {
    var text: String?
    var ids: [Int32]?
    var addSpecial: Bool?
    var parseSpecial: Bool?

    enum CodingKeys: String, CodingKey {
        case text, ids
        case addSpecial = "add_special"
        case parseSpecial = "parse_special"
    }

    init(_ line: TextLines.Line, of lines: TextLines) throws {
        self = try lines.decode(TextLine.self, line, Self.members)
        guard text != nil || ids != nil else {
            throw lines.wrong(line.number, "is no JSON object with \(Self.members)")
        }
    }

    private static let members = #""text" (a string) or "ids" (numbers of tokens)"#

    /// add_special is on and parse_special off unless the line says otherwise.
    func tokens(_ tokenizer: Tokenizer) -> [Int32] {
        guard let text else { return ids ?? [] }
        return tokenizer.encode(text, addSpecial: addSpecial ?? true, parseSpecial: parseSpecial ?? false)
    }
}
