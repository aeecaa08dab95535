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
            // llama.cpp, which the values are from, leaves text as it is; Qwen2's own tokenizer composes it (below).
            if model == .qwen2,
                line.text.precomposedStringWithCanonicalMapping.utf8.elementsEqual(line.text.utf8) != true
            {
                continue
            }
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

    /// Values of Hugging Face `tokenizers` 0.22 with the vocabulary, the pattern and the normalizer NFC of Qwen2's
    /// tokenizer.json.
    @Test(
        "Qwen2's text is composed first",
        arguments: [
            ("cafe\u{301} \u{1112}\u{1161}\u{11ab}", [924, 58858, 61298]),
            (
                "q\u{307}\u{323} e\u{302}\u{323} A\u{30a} \u{212b} \u{2126}",
                [80, 136, 96, 136, 229, 220, 25232, 79252, 79252, 7851, 102]
            ),
            ("\u{b47}\u{b3e} \u{928}\u{93c} \u{958}", [156, 255, 233, 14925, 102, 47809, 5502, 120]),
            ("a\u{301}\u{301} \u{344} \u{1e9b}\u{323}", [1953, 53839, 220, 136, 230, 53839, 220, 149616, 136, 96]),
            ("\u{301}x", [53839, 87]), ("Vie\u{323}\u{302}t Nam", [35544, 124382, 29974]),
        ])
    func composes(text: String, ids: [Int32]) throws {
        let tokenizer = try Tokenizer(try GGUFFile(path: try RealModel.qwen2.path).metadata)
        #expect(tokenizer.encode(text, addSpecial: false, parseSpecial: false) == ids)
    }

    @Test("Any text has the tokens of its composed form, as Foundation composes it")
    func composesAnyText() throws {
        let tokenizer = try Tokenizer(try GGUFFile(path: try RealModel.qwen2.path).metadata)
        var random = TestRandom(seed: 5)
        let ranges: [ClosedRange<UInt32>] = [
            0x41...0x7a, 0xc0...0x24f, 0x300...0x36f, 0x390...0x3ff, 0x591...0x5c7, 0x900...0x9ff, 0xb3e...0xb57,
            0xe30...0xe4f, 0x1100...0x11ff, 0x1e00...0x1fff, 0x2126...0x212b, 0x3040...0x30ff, 0xac00...0xac40,
            0xf900...0xfa20, 0x1d15e...0x1d164,
        ]
        for _ in 0..<3000 {
            var text = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                let range = ranges.randomElement(using: &random) ?? 0x41...0x7a
                if let scalar = Unicode.Scalar(UInt32.random(in: range, using: &random)) { text.append(scalar) }
            }
            let composed = String(text).precomposedStringWithCanonicalMapping
            let ids = tokenizer.encode(String(text), addSpecial: false, parseSpecial: false)
            #expect(
                ids == tokenizer.encode(composed, addSpecial: false, parseSpecial: false),
                "\(text.map { String($0.value, radix: 16) })")
        }
    }

    /// A SentencePiece tokenizer that adds BOS and a space.
    private func sentencePiece() throws -> Tokenizer {
        let folder = try TemporaryFolder()
        let tokens =
            ["<unk>", "<s>", "</s>"]
            + (0..<256).map { byte in
                let hex = String(byte, radix: 16, uppercase: true)
                return "<0x\(hex.count < 2 ? "0" : "")\(hex)>"
            }
        let words = ["▁", "a", "b", "ab", "▁ab", "▁▁", "c"]
        let bytes = TinyLlama.gguf { builder in
            builder.pairs.removeAll { $0.0.hasPrefix("tokenizer.") }
            builder.pairs += [
                ("tokenizer.ggml.model", .string("llama")), ("tokenizer.ggml.tokens", .strings(tokens + words)),
                ("tokenizer.ggml.scores", .float32s((0..<tokens.count + words.count).map { -Float($0) })),
                (
                    "tokenizer.ggml.token_type",
                    .int32s([2, 3, 3] + Array(repeating: 6, count: 256) + words.map { _ in 1 })
                ),
                ("tokenizer.ggml.bos_token_id", .uint32(1)), ("tokenizer.ggml.eos_token_id", .uint32(2)),
            ]
        }
        return try Tokenizer(try GGUFFile(path: try folder.write("in.gguf", bytes)).metadata)
    }

    @Test("A text that begins with BOS gets no second one")
    func oneBOS() throws {
        let tokenizer = try sentencePiece()
        let added = tokenizer.encode("ab", addSpecial: true, parseSpecial: true)
        #expect(added == [1, 263])
        #expect(tokenizer.encode("<s>ab", addSpecial: true, parseSpecial: true) == added)
        #expect(tokenizer.encode("<s>ab", addSpecial: false, parseSpecial: true) == added)
        #expect(tokenizer.encode("<s><s>ab", addSpecial: true, parseSpecial: true) == [1, 1, 263])
        #expect(tokenizer.encode("<s>", addSpecial: true, parseSpecial: true) == [1])
        // Not where it is no token, but text.
        #expect(tokenizer.encode("<s>ab", addSpecial: true, parseSpecial: false).first == 1)
        #expect(tokenizer.encode("<s>ab", addSpecial: true, parseSpecial: false).count > 4)
    }

    @Test("The space that SentencePiece puts before a text is taken off again, but not before an answer")
    func firstSpace() throws {
        let tokenizer = try sentencePiece()
        for text in ["ab", " ab", "  ab c", "a  b", "", " "] {
            let ids = tokenizer.encode(text, addSpecial: true, parseSpecial: false)
            #expect(tokenizer.decode(ids) == text)
            var whole = IncrementalDetokenizer(tokenizer, isWholeText: true)
            #expect(ids.map { whole.append($0) }.joined() + whole.finish() == text)
            var answer = IncrementalDetokenizer(tokenizer)
            #expect(ids.map { answer.append($0) }.joined() + answer.finish() == (text.isEmpty ? "" : " " + text))
        }
    }

    @Test("Where no token joins two words, a long text is cut between them and has the same tokens")
    func cutTexts() throws {
        let tokenizer = try sentencePiece()
        let word = "ab abab  c"
        let piece = tokenizer.encode(word, addSpecial: false, parseSpecial: false)
        let ids = tokenizer.encode(
            String(repeating: word + " ", count: 9000) + word, addSpecial: false, parseSpecial: false)
        #expect(ids == Array(repeatElement(piece, count: 9001).joined()))
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
