import Foundation
import ModelFormat
import Testing
import TestKit
import Text

@Suite("WordPiece")
struct WordPieceTests {
    private struct Line: Decodable {
        let cat, text: String
        let ids: [Int32]
    }

    private func tokenizer() throws -> Tokenizer { try Tokenizer(try RealModel.minilm.open().metadata) }

    @Test("All reference texts become the reference's tokens")
    func reference() throws {
        let url = Bundle.module.url(forResource: "minilm", withExtension: "jsonl", subdirectory: "Reference/tokenize")
        let tokenizer = try tokenizer()
        let lines = try Reference.lines(Line.self, url)
        #expect(lines.count > 200)
        for line in lines {
            let ids = tokenizer.encode(line.text, addSpecial: true, parseSpecial: false)
            #expect(ids == line.ids, "\(line.cat): \(line.text.debugDescription)")
        }
    }

    @Test("Tokens become words again")
    func decoding() throws {
        let tokenizer = try tokenizer()
        let ids = tokenizer.encode("Unbelievably good tokenizers", addSpecial: true, parseSpecial: false)
        #expect(tokenizer.decode(ids) == "unbelievably good tokenizers")
        #expect(tokenizer.decode(ids, special: true).hasPrefix("[CLS]"))
    }

    @Test("A word of a million letters is unknown, not slow")
    func longWord() throws {
        let ids = try tokenizer().encode(
            String(repeating: "a", count: 1_000_000), addSpecial: true, parseSpecial: false)
        #expect(ids == [101, 100, 102])
    }
}
