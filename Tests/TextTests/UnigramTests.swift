import ModelFormat
import Testing
import TestKit
import Text

@Suite("Unigram tokenizers")
struct UnigramTests {
    private func tokenizer(
        _ tokens: [(String, Float)], kinds: [Int32]? = nil, more: [(String, GGUFBuilder.Value)] = []
    ) throws -> Tokenizer {
        let all = [("<pad>", 0), ("</s>", 0), ("<unk>", 0)] + tokens
        let folder = try TemporaryFolder()
        let bytes = TinyLlama.gguf { builder in
            builder.pairs.removeAll { $0.0.hasPrefix("tokenizer.") }
            builder.pairs += [
                ("tokenizer.ggml.model", .string("t5")), ("tokenizer.ggml.tokens", .strings(all.map(\.0))),
                ("tokenizer.ggml.scores", .float32s(all.map(\.1))),
                ("tokenizer.ggml.token_type", .int32s([3, 3, 2] + (kinds ?? tokens.map { _ in 1 }))),
            ]
            builder.pairs += more
        }
        return try Tokenizer(try GGUFFile(path: try folder.write("in.gguf", bytes)).metadata)
    }

    private let tokens: [(String, Float)] = [
        ("▁", -3), ("a", -3), ("b", -3), ("ab", -4), ("▁ab", -5), ("abb", -6.5), ("c", -3),
    ]

    @Test("Of all ways to write a text the one with the best sum of scores is found")
    func bestSum() throws {
        let tokenizer = try tokenizer(tokens)
        #expect(tokenizer.encode("ab", addSpecial: false, parseSpecial: false) == [7])
        // ▁ (-3) abb (-6.5) is less than ▁ab (-5) b (-3).
        #expect(tokenizer.encode("abb", addSpecial: false, parseSpecial: false) == [7, 5])
        #expect(tokenizer.encode("cabb", addSpecial: false, parseSpecial: false) == [3, 9, 8])
    }

    @Test("Unknown characters in a row are one unknown token, and EOS follows a text")
    func unknown() throws {
        let tokenizer = try tokenizer(tokens)
        #expect(tokenizer.encode("axyzb", addSpecial: true, parseSpecial: false) == [3, 4, 2, 5, 1])
    }

    @Test("Spaces are merged where the file says so, and kept where it does not")
    func spaces() throws {
        let text = "  ab  c "
        let kept = try tokenizer(tokens)
        #expect(kept.encode(text, addSpecial: false, parseSpecial: false) == [3, 3, 7, 3, 3, 9, 3])
        let merged = try tokenizer(tokens, more: [("tokenizer.ggml.remove_extra_whitespaces", .bool(true))])
        #expect(merged.encode(text, addSpecial: false, parseSpecial: false) == [7, 3, 9])
        #expect(merged.decode([7, 3, 9]) == "ab c")
    }

    @Test("A text of a megabyte, with and without spaces, takes no minute and comes out whole")
    func longTexts() throws {
        let tokenizer = try tokenizer(tokens)
        let start = ContinuousClock.now
        for piece in ["ab", "ab c"] {
            let text = String(repeating: piece, count: (1 << 20) / piece.utf8.count)
            #expect(tokenizer.decode(tokenizer.encode(text, addSpecial: false, parseSpecial: false)) == text)
        }
        #expect(ContinuousClock.now - start < .seconds(60))
    }

    @Test("Scores that are no numbers, and tables of replacements of any content, never trap")
    func hostile() throws {
        var random = TestRandom(seed: 51)
        for round in 0..<60 {
            let scores: [Float] = [.nan, .infinity, -.infinity, 0, -1, .greatestFiniteMagnitude]
            let tokens = tokens.map { ($0.0, scores.randomElement(using: &random) ?? 0) }
            let words = (0..<64).map { _ in Int32.random(in: round % 2 == 0 ? 0...255 : .min ... .max, using: &random) }
            let bytes = words.flatMap { word in (0..<4).map { Int32(UInt8(truncatingIfNeeded: word >> ($0 * 8))) } }
            let map = [0, 1, 0, 0] + bytes + [97, 98, 0]
            let more = [("tokenizer.ggml.precompiled_charsmap", GGUFBuilder.Value.int32s(map))]
            let tokenizer = try tokenizer(tokens, more: more)
            let ids = tokenizer.encode("ab cab xyz \u{1}\u{2}", addSpecial: true, parseSpecial: true)
            #expect(ids.allSatisfy { (0..<Int32(tokenizer.vocabularySize)).contains($0) })
        }
    }

    @Test(
        "A table of replacements that contradicts itself is named",
        arguments: [[0], [8, 0, 0, 0, 1], [255, 255, 255, 255, 0]])
    func contradictingMap(map: [Int32]) throws {
        let error = #expect(throws: TextError.self) {
            try tokenizer(tokens, more: [("tokenizer.ggml.precompiled_charsmap", .int32s(map))])
        }
        #expect(error?.description.contains("precompiled_charsmap") == true)
    }
}
