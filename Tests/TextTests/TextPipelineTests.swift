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

    private func tokenizer(normalizer: [String], splitter: [String]) throws -> Tokenizer {
        let folder = try TemporaryFolder()
        var metadata = MetadataEncoder()
        metadata.set("tokenizer.ggml.model", "gpt2")
        metadata.set("tokenizer.ggml.tokens", ["a", "b", "ab", "<x>"])
        metadata.set("tokenizer.ggml.token_type", [1, 1, 1, 4])
        metadata.set("tokenizer.ggml.merges", ["a b"])
        metadata.set("tokenizer.ebb.added_flags", [3, 8])
        metadata.set("tokenizer.ebb.normalizer", normalizer)
        metadata.set("tokenizer.ebb.splitter", splitter)
        try EbbWriter(destination: folder.file("model.ebb"), metadata: metadata, shapes: []).finish()
        return try Tokenizer(try EbbFile(path: folder.file("model.ebb")).metadata)
    }

    @Test("Steps of any names and in any order never trap, and never make a token outside the vocabulary")
    func hostileSteps() throws {
        let steps = [
            ["nfc"], ["nfkd"], ["lowercase"], ["strip_start"], ["nmt"], ["replace", "[ab]", ""], ["prepend", "a"],
            ["clean_text"],
        ]
        let splits = [
            ["split", "[ab]", "Contiguous", "1"], ["split", "(a|b){2}", "MergedWithNext", "0"], ["space"],
            ["metaspace", " ", "always"], ["metaspace", "a", "first"],
        ]
        let words = (steps + splits).flatMap { $0 } + ["precompiled", "split", "metaspace", "(", "\u{301}", ""]
        var random = TestRandom(seed: 16)
        var opened = 0
        for round in 0..<600 {
            func some(_ steps: [[String]]) -> [String] {
                let count = Int.random(in: 0..<6, using: &random)
                let known = (0..<count).compactMap { _ in steps.randomElement(using: &random) }.joined()
                return Array(known) + (round % 3 == 0 ? Array(words.shuffled(using: &random).prefix(2)) : [])
            }
            guard let tokenizer = try? tokenizer(normalizer: some(steps), splitter: some(splits)) else { continue }
            opened += 1
            for text in ["", " ab ba<x>ab  ", "é e\u{301} \u{fdfa}<x>", "\0\n\t"] {
                let ids = tokenizer.encode(text, addSpecial: true, parseSpecial: true)
                #expect(ids.allSatisfy { (0..<4).contains($0) })
            }
        }
        #expect(opened > 200)
    }

    @Test("Work for a text grows with its length, and stops when it is not wanted any more")
    func work() throws {
        let tokenizer = try tokenizer(
            normalizer: ["nfkc", "replace", "b+", "ab", "strip_end"],
            splitter: [
                "metaspace", "_", "always", "split", "[a_]", "MergedWithNext", "0", "split", "b", "Removed", "1",
            ]
        )
        func questions(_ text: String, limit: Int = .max) throws -> Int {
            var count = 0
            _ = try tokenizer.encode(text, addSpecial: true, parseSpecial: true) {
                count += 1
                return count >= limit
            }
            return count
        }
        for piece in ["a", "b", "ab ", "e\u{323}\u{301}", "\u{fdfa}", "<x>", " "] {
            let one = try questions(String(repeating: piece, count: 60_000 / piece.utf8.count))
            let four = try questions(String(repeating: piece, count: 240_000 / piece.utf8.count))
            #expect(one >= 60_000 / 4096 && four <= 5 * one, "\(piece.debugDescription): \(one) and \(four)")
        }
        #expect(throws: CancellationError.self) { try questions(String(repeating: "ab ", count: 50_000), limit: 5) }
    }
}
