import Foundation
import ModelFormat
import Testing
import TestKit
import Text

/// BPE and Unigram from Hugging Face folders, held to what Hugging Face's tokenizers make of the same tokenizer.json.
@Suite("Subword models of tokenizer.json")
struct SubwordJSONTests {
    private struct Line: Decodable {
        let vocabulary, text: String
        let ids: [Int32]
    }

    private func tokenizer(_ json: [UInt8], count: Int) throws -> Tokenizer {
        var model = TinyBert()
        model.tokens = (0..<count).map { "\($0)" }
        model.config["vocab_size"] = count
        let folder = try model.folder()
        try folder.write("tokenizer.json", json)
        let metadata = try HuggingFaceFolder(path: folder.path).encodedMetadata()
        try EbbWriter(destination: folder.file("model.ebb"), metadata: metadata, shapes: []).finish()
        return try Tokenizer(try EbbFile(path: folder.file("model.ebb")).metadata)
    }

    @Test(
        "Any text becomes the tokens that Hugging Face's tokenizers make of it",
        arguments: [
            ("bpe-byte-level", 50261), ("bpe-split", 50261), ("bpe-digits", 50261), ("bpe-several", 50261),
            ("unigram-words", 250048), ("unigram-metaspace", 250048),
        ])
    func references(name: String, count: Int) throws {
        let tokenizer = try tokenizer(try LlamaVocabulary.tokenizerJSON(name), count: count)
        let lines = try LlamaVocabulary.references(Line.self).filter { $0.vocabulary == name }
        #expect(lines.count > 300)
        for line in lines {
            let ids = tokenizer.encode(line.text, addSpecial: true, parseSpecial: true)
            #expect(ids == line.ids, "\(line.text.debugDescription)")
        }
    }

    private func small(_ change: [String: Any], model: [String: Any] = [:]) throws -> Tokenizer {
        let bytePair: [String: Any] = [
            "model": ["type": "BPE", "vocab": ["a": 0, "b": 1, "ab": 2], "merges": ["a b"]],
            "pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": false],
        ]
        var file = bytePair.merging(change) { $1 }
        if !model.isEmpty, let old = file["model"] as? [String: Any] { file["model"] = old.merging(model) { $1 } }
        return try tokenizer(Array(try JSONSerialization.data(withJSONObject: file)), count: 3)
    }

    @Test("A small file with merges as texts or as pairs is read")
    func smallFiles() throws {
        #expect(try small([:]).encode("abb", addSpecial: true, parseSpecial: true) == [2, 1])
        let pairs = try small([:], model: ["merges": [["a", "b"]]])
        #expect(pairs.encode("abb", addSpecial: true, parseSpecial: true) == [2, 1])
    }

    @Test("What a tokenizer.json has that is not supported is named")
    func refusals() throws {
        func refused(_ change: [String: Any], model: [String: Any] = [:], _ word: String) {
            let error = #expect(throws: (any Error).self) { try small(change, model: model) }
            #expect("\(error.map { "\($0)" } ?? "")".contains(word), "\(word): \(error.map { "\($0)" } ?? "")")
        }
        func split(_ pattern: Any, _ behavior: String = "Isolated") -> [String: Any] {
            let split: [String: Any] = ["type": "Split", "pattern": pattern, "behavior": behavior]
            let last: [String: Any] = ["type": "ByteLevel", "add_prefix_space": false, "use_regex": false]
            return ["pre_tokenizer": ["type": "Sequence", "pretokenizers": [split, last]]]
        }
        refused([:], model: ["dropout": 0.1], "dropout")
        refused([:], model: ["unk_token": "a"], "unk_token")
        refused([:], model: ["byte_fallback": true], "byte_fallback")
        refused([:], model: ["end_of_word_suffix": "</w>"], "end_of_word_suffix")
        refused([:], model: ["vocab": ["a": 0, "b": 7, "ab": 2]], "impossible id")
        refused([:], model: ["merges": ["a b c"]], "merges[0]")
        refused([:], model: ["cheese": 1], "cheese")
        refused(["normalizer": ["type": "Lowercase"]], "Lowercase")
        refused(["pre_tokenizer": ["type": "Whitespace"]], "Whitespace")
        refused(["pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": true]], "add_prefix_space")
        refused(split(["Regex": "(?<=a)b"]), "(?<")
        refused(split(["Regex": "a"], "Removed"), "Removed")
        refused(["post_processor": ["type": "Klingon"]], "Klingon")
        refused(["added_tokens": [["id": 9, "content": "x"]]], "x")
    }
}
