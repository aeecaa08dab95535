import ModelFormat
import Testing
import TestKit
import Text

/// Work is counted by how often a tokenizer asks whether it is still wanted: once for every few thousand bytes, places or
/// merges.
@Suite("Work of tokenizers")
struct TokenizerWorkTests {
    private static let models: [RealModel] = [.smollm2, .qwen2, .gemma3, .minilm]

    private func tokenizer(_ model: RealModel) throws -> Tokenizer {
        model == .minilm
            ? try Tokenizer(try model.open().metadata) : try Tokenizer(try GGUFFile(path: try model.path).metadata)
    }

    private func questions(_ text: String, _ tokenizer: Tokenizer) throws -> Int {
        var count = 0
        _ = try tokenizer.encode(text, addSpecial: true, parseSpecial: true) {
            count += 1
            return false
        }
        return count
    }

    private static let pieces = [
        "e\u{323}\u{301}", "\u{323}\u{301}", "\u{301}\u{323}", "a", "ab", " ", "\n", " \n", "  a", "<", "<|im_start|>",
        "[CLS]",
        "\u{1112}\u{1161}\u{11ab}", "中", "’", "'s", "1", "#", "word and word ", "\u{1f468}\u{200d}", "\u{958}",
    ]

    @Test("Four times the text is little more than four times the work, whatever the text", arguments: models)
    func growth(model: RealModel) throws {
        let tokenizer = try tokenizer(model)
        for piece in Self.pieces {
            let times = 60_000 / piece.utf8.count
            let one = try questions(String(repeating: piece, count: times), tokenizer)
            let four = try questions(String(repeating: piece, count: 4 * times), tokenizer)
            // Every byte is counted once at least.
            #expect(one >= piece.utf8.count * times / 4096)
            #expect(four <= 5 * one, "\(piece.debugDescription): \(one) and \(four)")
        }
    }

    @Test("A template's source is searched once for all the tokens that a conversation has, and that is counted")
    func marks() throws {
        let names = (0..<500).map { "<\($0)>" }
        let tokens = ["a", "b"] + names
        let bytes = TinyLlama.gguf { builder in
            builder.pairs.removeAll {
                $0.0.hasSuffix(".tokens") || $0.0.hasSuffix(".merges") || $0.0.hasSuffix("_type")
            }
            builder.pairs += [
                ("tokenizer.ggml.tokens", .strings(tokens)), ("tokenizer.ggml.merges", .strings([])),
                ("tokenizer.ggml.token_type", .int32s([1, 1] + names.map { _ in 4 })),
            ]
        }
        let folder = try TemporaryFolder()
        let tokenizer = try Tokenizer(try GGUFFile(path: try folder.write("in.gguf", bytes)).metadata)
        let source = String(repeating: "ab", count: 50_000) + "<7><8>"
        var questions = 0
        let ids = try tokenizer.encode(MarkedText(text: names.joined(), trusted: [], marks: source)) {
            questions += 1
            return false
        }
        // <7> and <8> are the template's words: in a message they are text, whose characters this vocabulary lacks.
        #expect(ids == tokens.indices.dropFirst(2).filter { ![9, 10].contains($0) }.map { Int32($0) })
        #expect((source.utf8.count / 4096...2 * source.utf8.count / 4096).contains(questions))
    }

    @Test("A run of 400 KB of combining marks takes no minute", arguments: models)
    func combiningMarks(model: RealModel) throws {
        let tokenizer = try tokenizer(model)
        let start = ContinuousClock.now
        let text = "e" + String(repeating: "\u{323}\u{301}", count: 100_000)
        #expect(!tokenizer.encode(text, addSpecial: true, parseSpecial: true).isEmpty)
        #expect(ContinuousClock.now - start < .seconds(60))
    }

    @Test("Work that is not wanted any more stops", arguments: models)
    func cancels(model: RealModel) throws {
        let tokenizer = try tokenizer(model)
        let text = String(repeating: "word e\u{323}\u{301} ", count: 20_000)
        for limit in [1, 5, 20] {
            var asked = 0
            #expect(throws: CancellationError.self) {
                try tokenizer.encode(text, addSpecial: true, parseSpecial: true) {
                    asked += 1
                    return asked == limit
                }
            }
            #expect(asked == limit)
        }
    }

    @Test("Texts of any bytes and ids of any size never trap, and make tokens of the vocabulary", arguments: models)
    func anything(model: RealModel) throws {
        let tokenizer = try tokenizer(model)
        var random = TestRandom(seed: 99)
        for round in 0..<300 {
            let bytes = (0..<Int.random(in: 0..<200, using: &random)).map { _ in
                UInt8.random(in: round % 2 == 0 ? 0...255 : 0x20...0xff, using: &random)
            }
            let text = String(decoding: bytes, as: UTF8.self)
            let ids = tokenizer.encode(text, addSpecial: true, parseSpecial: round % 3 == 0)
            #expect(ids.allSatisfy { (0..<Int32(tokenizer.vocabularySize)).contains($0) })
            let wild = (0..<20).map { _ in Int32.random(in: .min ... .max, using: &random) } + [.min, .max, -1]
            #expect(tokenizer.decode(wild.filter { $0 < 0 || $0 >= tokenizer.vocabularySize }, special: true) == "")
            #expect(tokenizer.byteCount(of: ids) >= tokenizer.decode(ids).utf8.count)
            _ = tokenizer.decode(wild)
        }
    }
}
