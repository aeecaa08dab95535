import Foundation
import ModelFormat

/// Texts that stand for what a model will read: lines of plain text, or of JSON with "text".
public enum CalibrationTexts {
    /// - Throws: ``FormatError`` where the file cannot be read, or holds no text.
    public static func read(_ path: String) throws -> [String] {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw FormatError("cannot read \(path)")
        }
        guard let all = String(validating: data, as: UTF8.self) else { throw FormatError("\(path) is not UTF-8") }
        let texts = all.split(whereSeparator: \.isNewline).map(String.init).filter { !$0.allSatisfy(\.isWhitespace) }
        guard !texts.isEmpty else {
            throw FormatError("\(path) is empty: put some hundred typical texts into it, one a line")
        }
        struct Line: Decodable { let text: String }
        return texts.map { line in
            guard line.hasPrefix("{") else { return line }
            return (try? JSONDecoder().decode(Line.self, from: Data(line.utf8)))?.text ?? line
        }
    }
}
