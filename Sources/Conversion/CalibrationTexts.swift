import Foundation
import ModelFormat
import Text

/// Texts that stand for what a model will read: lines of plain text, or of JSON with "text".
public enum CalibrationTexts {
    /// Bytes of all texts at most: they are held in memory, and so are the model's outputs for them.
    private static let limit = 256 << 20

    /// - Throws: ``InputError`` that names the line, ``FormatError`` where the file cannot be read.
    public static func read(_ path: String) throws -> [String] {
        let lines = try TextLines(path: path)
        var texts: [String] = []
        var bytes = 0
        while let line = try lines.nextText() {
            let text = try text(line, of: lines)
            bytes += text.utf8.count
            guard bytes <= limit else { throw InputError("\(path): its texts are longer than \(limit >> 20) MiB") }
            texts.append(text)
        }
        guard !texts.isEmpty else {
            throw InputError("\(path) is empty: put some hundred typical texts into it, one a line")
        }
        return texts
    }

    /// A line as it is, or, where it begins as JSON, its "text".
    private static func text(_ line: TextLines.Line, of lines: TextLines) throws -> String {
        guard line.text.first(where: { !$0.isWhitespace }) == "{" else { return line.text }
        return try lines.decode(Content.self, line, #""text""#).text
    }

    private struct Content: Decodable { let text: String }
}

extension TextLines {
    /// A line as JSON.
    /// - Parameter members: what it needs, for the error.
    /// - Throws: ``InputError`` that says where it stops being JSON, or what it lacks.
    public func decode<Value: Decodable>(_ type: Value.Type, _ line: Line, _ members: String) throws -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(line.text.utf8))
        } catch {
            do { _ = try JSONValue(parsing: line.text) } catch {
                throw wrong(line.number, "is no JSON object: \(error)")
            }
            throw wrong(line.number, "is no JSON object with \(members)")
        }
    }
}
