import Foundation
import ModelFormat
import Testing
import TestKit
import Text

/// Every normalizer, pre-tokenizer, model, post-processor and decoder of a tokenizer.json that is supported, held to what
/// Hugging Face's tokenizers make of the same file (Tests/Tokenizers/pipelines.py).
@Suite("Text before and after a tokenizer.json's model")
struct TextPipelineTests {
    private struct Line: Decodable {
        let name, text: String
        let count: Int
        /// What is no UTF-8, in hexadecimal digits.
        let bytes: String?
        let ids: [Int32]
        let decoded: String?

        /// Both sides make U+FFFD of bytes that are no UTF-8 before they look at a text: `tokenizers` gets that text only.
        var given: String {
            guard let bytes else { return text }
            let digits = Array(bytes.utf8)
            let raw = stride(from: 0, to: digits.count - 1, by: 2).compactMap { at in
                UInt8(String(decoding: digits[at...at + 1], as: UTF8.self), radix: 16)
            }
            return String(decoding: raw, as: UTF8.self)
        }
    }

    private static func lines() throws -> [String: [Line]] {
        Dictionary(grouping: try LlamaVocabulary.pipelines(Line.self), by: \.name)
    }

    private func tokenizer(_ name: String, count: Int) throws -> Tokenizer {
        var model = TinyBert()
        model.tokens = (0..<count).map { "\($0)" }
        model.config["vocab_size"] = count
        let folder = try model.folder()
        try folder.write("tokenizer.json", try LlamaVocabulary.tokenizerJSON("pipelines", file: name + ".json"))
        let metadata = try HuggingFaceFolder(path: folder.path).encodedMetadata()
        try EbbWriter(destination: folder.file("model.ebb"), metadata: metadata, shapes: []).finish()
        return try Tokenizer(try EbbFile(path: folder.file("model.ebb")).metadata)
    }

    @Test("Any text becomes the tokens that Hugging Face's tokenizers make of it, and text again")
    func references() throws {
        let all = try Self.lines()
        #expect(all.count > 60)
        for (name, lines) in all.sorted(by: { $0.key < $1.key }) {
            let tokenizer = try tokenizer(name, count: lines.first?.count ?? 0)
            var wrong: [String] = []
            for line in lines {
                #expect(Array(line.given.unicodeScalars) == Array(line.text.unicodeScalars))
                let ids = tokenizer.encode(line.given, addSpecial: true, parseSpecial: true)
                if ids != line.ids { wrong.append("\(line.given.debugDescription): \(ids), not \(line.ids)") }
                // Where a text begins with spaces, Metaspace takes all of those off, and so would take off the text's own.
                if let decoded = line.decoded, !line.given.hasPrefix(" "), tokenizer.decode(line.ids) != decoded {
                    wrong.append(
                        "\(line.ids): \(tokenizer.decode(line.ids).debugDescription), not \(decoded.debugDescription)")
                }
            }
            #expect(wrong.isEmpty, "\(name): \(wrong.count) of \(lines.count), such as \(wrong.prefix(2))")
        }
    }
}
