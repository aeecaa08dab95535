import Foundation
import Text

/// JSON objects on the lines of standard input.
struct JSONLines: Sequence, IteratorProtocol {
    private var number = 0

    mutating func next() -> (number: Int, text: String)? {
        while let line = readLine(strippingNewline: true) {
            number += 1
            if !line.allSatisfy(\.isWhitespace) { return (number, line) }
        }
        return nil
    }
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

    init(line: (number: Int, text: String)) throws {
        do {
            self = try JSONDecoder().decode(TextLine.self, from: Data(line.text.utf8))
        } catch {
            throw TextError("line \(line.number) of the input is not a JSON object with \"text\" or \"ids\"")
        }
        guard text != nil || ids != nil else {
            throw TextError("line \(line.number) of the input needs \"text\" or \"ids\"")
        }
    }

    /// add_special is on and parse_special off unless the line says otherwise.
    func tokens(_ tokenizer: Tokenizer) -> [Int32] {
        guard let text else { return ids ?? [] }
        return tokenizer.encode(text, addSpecial: addSpecial ?? true, parseSpecial: parseSpecial ?? false)
    }
}
