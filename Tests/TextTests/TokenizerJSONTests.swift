import Foundation
import ModelFormat
import Testing
import TestKit
import Text

/// The options of a tokenizer.json. The values are those of Hugging Face `tokenizers` 0.22 (`Tokenizer.from_str(…).encode`)
/// for the same file.
@Suite("Options of tokenizer.json")
struct TokenizerJSONTests {
    private static let words = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "mochte", "möchte", "Möchte", "Mochte", "ich", "Ich", "中", "文",
        "中文", "##文", "##s", "a", "b", "hello", "Hello", "world", "!", "é", "e", "naive", "naïve", "##x", "x", "मे",
        "में", "म", "~~s", "filler", "한국",
    ]

    private func tokenizer(_ normalizer: Any?, _ options: [String: Any] = [:]) throws -> Tokenizer {
        var model = TinyBert()
        let words = Self.words + (Self.words.count..<model.tokens.count).map { "filler\($0)" }
        model.tokens = words
        let folder = try model.folder()
        var wordPiece: [String: Any] = [
            "type": "WordPiece", "unk_token": "[UNK]",
            "vocab": Dictionary(uniqueKeysWithValues: words.enumerated().map { ($1, $0) }),
        ]
        wordPiece.merge(options) { $1 }
        let file: [String: Any] = ["model": wordPiece, "normalizer": normalizer ?? NSNull()]
        try folder.write("tokenizer.json", Array(try JSONSerialization.data(withJSONObject: file)))
        let path = folder.file("model.ebb")
        let metadata = try HuggingFaceFolder(path: folder.path).encodedMetadata()
        try EbbWriter(destination: path, metadata: metadata, shapes: []).finish()
        return try Tokenizer(try EbbFile(path: path).metadata)
    }

    private func bert(_ options: [String: Any] = [:]) -> [String: Any] {
        options.merging(["type": "BertNormalizer"]) { old, _ in old }
    }

    private func sequence(_ steps: Any...) -> [String: Any] {
        ["type": "Sequence", "normalizers": steps.map { ($0 as? String).map { ["type": $0] } ?? $0 }]
    }

    private func check(_ tokenizer: Tokenizer, _ first: [Int32], _ second: [Int32]) {
        let texts = [
            "Ich möchte 中文! naïve Hello\u{0}world मे",
            "as xs xx 中文s nai\u{308}ve \u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8} 한국",
        ]
        for (text, ids) in zip(texts, [first, second]) {
            #expect(tokenizer.encode(text, addSpecial: true, parseSpecial: false) == ids)
        }
    }

    @Test("BERT's normalizer with each of its options")
    func bertNormalizer() throws {
        let usual: ([Int32], [Int32]) = (
            [2, 9, 5, 11, 12, 21, 24, 1, 30, 3], [2, 16, 15, 27, 15, 27, 26, 11, 12, 1, 24, 1, 1, 3]
        )
        check(try tokenizer(bert()), usual.0, usual.1)
        check(try tokenizer(bert(["clean_text": false])), usual.0, usual.1)
        check(
            try tokenizer(bert(["strip_accents": false])), [2, 9, 6, 11, 12, 21, 25, 1, 28, 3],
            [2, 16, 15, 27, 15, 27, 26, 11, 12, 1, 1, 1, 33, 3])
        check(
            try tokenizer(bert(["lowercase": false])), [2, 10, 6, 11, 12, 21, 25, 1, 28, 3],
            [2, 16, 15, 27, 15, 27, 26, 11, 12, 1, 1, 1, 33, 3])
        check(
            try tokenizer(bert(["lowercase": false, "strip_accents": true])), [2, 10, 5, 11, 12, 21, 24, 1, 30, 3],
            [2, 16, 15, 27, 15, 27, 26, 11, 12, 1, 24, 1, 1, 3])
        check(
            try tokenizer(bert(["handle_chinese_chars": false])), [2, 9, 5, 13, 21, 24, 1, 30, 3],
            [2, 16, 15, 27, 15, 27, 26, 13, 15, 24, 1, 1, 3])
    }

    @Test("Other normalizers, and sequences of them")
    func sequences() throws {
        check(
            try tokenizer(nil), [2, 10, 6, 13, 21, 25, 1, 28, 3], [2, 16, 15, 27, 15, 27, 26, 13, 15, 1, 1, 33, 3])
        check(
            try tokenizer(["type": "Lowercase"]), [2, 9, 6, 13, 21, 25, 1, 28, 3],
            [2, 16, 15, 27, 15, 27, 26, 13, 15, 1, 1, 33, 3])
        check(
            try tokenizer(sequence("NFD", "Lowercase", "StripAccents")), [2, 9, 5, 13, 21, 24, 1, 30, 3],
            [2, 16, 15, 27, 15, 27, 26, 13, 15, 24, 1, 1, 3])
        check(
            try tokenizer(sequence(sequence("NFC"), bert(["strip_accents": false]))),
            [2, 9, 6, 11, 12, 21, 25, 1, 28, 3], [2, 16, 15, 27, 15, 27, 26, 11, 12, 1, 25, 33, 33, 3])
    }

    @Test("The longest word and the mark of pieces inside a word")
    func model() throws {
        check(
            try tokenizer(bert(), ["max_input_chars_per_word": 5]), [2, 9, 1, 11, 12, 21, 24, 1, 30, 3],
            [2, 16, 15, 27, 15, 27, 26, 11, 12, 1, 24, 1, 1, 3])
        let tokenizer = try tokenizer(bert(), ["continuing_subword_prefix": "~~"])
        check(
            tokenizer, [2, 9, 5, 11, 12, 21, 24, 1, 30, 3], [2, 16, 31, 27, 31, 1, 11, 12, 1, 24, 1, 1, 3])
        #expect(tokenizer.decode([16, 31, 27]) == "as x")
    }
}
