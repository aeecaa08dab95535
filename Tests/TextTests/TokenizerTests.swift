import Foundation
import ModelFormat
import Testing
import TestKit
import Text

@Suite("Tokenizers")
struct TokenizerTests {
    private struct Line: Decodable {
        let cat, text: String
        let add_special, parse_special: Bool
        let ids: [Int32]
    }

    private func lines(_ model: RealModel) throws -> [Line] {
        let url = Bundle.module.url(
            forResource: model.rawValue, withExtension: "jsonl", subdirectory: "Reference/tokenize")
        return try Reference.lines(Line.self, url)
    }

    @Test("All reference texts become the reference's tokens", arguments: [RealModel.smollm2, .qwen2, .gemma3])
    func referenceTokens(model: RealModel) throws {
        let tokenizer = try Tokenizer(try GGUFFile(path: try model.path).metadata)
        for line in try lines(model) {
            let ids = tokenizer.encode(line.text, addSpecial: line.add_special, parseSpecial: line.parse_special)
            #expect(ids == line.ids, "\(line.cat): \(line.text.debugDescription)")
        }
    }

    @Test("Tokens become the text again", arguments: [RealModel.qwen2, .gemma3])
    func roundTrip(model: RealModel) throws {
        let tokenizer = try Tokenizer(try GGUFFile(path: try model.path).metadata)
        // SentencePiece writes a space as U+2581: a text with that character itself cannot come back.
        for line in try lines(model) where !line.add_special && !(model == .gemma3 && line.text.contains("\u{2581}")) {
            #expect(tokenizer.decode(line.ids, special: true) == line.text, "\(line.cat)")
        }
    }

    @Test(
        "Text comes out whole, whatever the tokens are, and never half a character",
        arguments: [RealModel.smollm2, .qwen2])
    func incremental(model: RealModel) throws {
        let tokenizer = try Tokenizer(try GGUFFile(path: try model.path).metadata)
        for line in try lines(model) {
            var detokenizer = IncrementalDetokenizer(tokenizer)
            var pieces = line.ids.map { detokenizer.append($0) }
            #expect(!pieces.joined().contains("\u{fffd}") || line.text.contains("\u{fffd}"), "\(line.cat)")
            pieces.append(detokenizer.finish())
            #expect(pieces.joined() == tokenizer.decode(line.ids), "\(line.cat)")
        }
    }

    @Test("Time grows with the text's length, not with its square", arguments: [RealModel.qwen2, .gemma3])
    func longText(model: RealModel) throws {
        let tokenizer = try Tokenizer(try GGUFFile(path: try model.path).metadata)
        // One word of a million letters: quadratic work would take hours, not be slow.
        let word = String(repeating: "abcdefghij", count: 100_000)
        let ids = tokenizer.encode(word, addSpecial: false, parseSpecial: true)
        #expect(tokenizer.decode(ids) == word)
    }

    @Test("Random tokens never trap the detokenizer")
    func randomTokens() throws {
        let tokenizer = try Tokenizer(try GGUFFile(path: try RealModel.smollm2.path).metadata)
        var random = TestRandom(seed: 31)
        for _ in 0..<200 {
            var detokenizer = IncrementalDetokenizer(tokenizer)
            let ids = (0..<20).map { _ in Int32.random(in: -5..<Int32(tokenizer.vocabularySize + 5), using: &random) }
            let text = ids.map { detokenizer.append($0) }.joined() + detokenizer.finish()
            #expect(text == tokenizer.decode(ids))
        }
    }

    @Test("The end of a chat turn ends a generation")
    func endTokens() throws {
        let tokenizer = try Tokenizer(try GGUFFile(path: try RealModel.smollm2.path).metadata)
        #expect(tokenizer.endOfGeneration.contains(2))
    }

    @Test("A token that is not printed has a name to look for, a printed one has none")
    func hiddenText() throws {
        let tokenizer = try Tokenizer(try GGUFFile(path: try RealModel.smollm2.path).metadata)
        #expect(tokenizer.hiddenText(of: 1) == "<|im_start|>")
        #expect(tokenizer.hiddenText(of: 2) == "<|im_end|>")
        let word = tokenizer.encode("word", addSpecial: false, parseSpecial: false)
        #expect(word.allSatisfy { tokenizer.hiddenText(of: $0) == nil })
        for id in [-1, .min, .max, Int32(tokenizer.vocabularySize)] { #expect(tokenizer.hiddenText(of: id) == nil) }
    }

    @Test("A pre-tokenizer that is not known is named")
    func unknownPreTokenizer() throws {
        let folder = try TemporaryFolder()
        let bytes = TinyLlama.gguf { builder in
            builder.pairs.removeAll { $0.0 == "tokenizer.ggml.pre" }
            builder.pairs.append(("tokenizer.ggml.pre", .string("klingon")))
        }
        let file = try GGUFFile(path: try folder.write("in.gguf", bytes))
        let error = #expect(throws: TextError.self) { try Tokenizer(file.metadata) }
        #expect(error?.description.contains("klingon") == true)
    }
}
