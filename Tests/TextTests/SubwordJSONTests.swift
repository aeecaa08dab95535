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

    private func small(_ change: [String: Any], model: [String: Any] = [:], tokens: Int = 3) throws -> Tokenizer {
        let bytePair: [String: Any] = [
            "model": ["type": "BPE", "vocab": ["a": 0, "b": 1, "ab": 2], "merges": ["a b"]],
            "pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": false],
        ]
        var file = bytePair.merging(change) { $1 }
        if !model.isEmpty, let old = file["model"] as? [String: Any] { file["model"] = old.merging(model) { $1 } }
        return try tokenizer(Array(try JSONSerialization.data(withJSONObject: file)), count: tokens)
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
        refused([:], model: ["unk_token": "x"], "unk_token")
        refused([:], model: ["byte_fallback": true], "byte_fallback")
        let unigram: [String: Any] = ["type": "Unigram", "vocab": [["a", 0], ["<0x41>", 0]], "unk_id": 0]
        refused(["model": unigram.merging(["byte_fallback": true]) { $1 }], "byte_fallback")
        refused([:], model: ["end_of_word_suffix": "</w>"], "end_of_word_suffix")
        refused([:], model: ["continuing_subword_prefix": "##"], "continuing_subword_prefix")
        refused([:], model: ["merges": ["a b c"]], "merges[0]")
        refused([:], model: ["cheese": 1], "cheese")
        refused(["normalizer": ["type": "Klingon"]], "Klingon")
        refused(["normalizer": replace("a*", "b")], "may match nothing")
        refused(["normalizer": replace("(?<=a)b", "b")], "(?<")
        refused(["normalizer": replace("a", String(repeating: "b", count: 257))], "256")
        refused(["normalizer": ["type": "Sequence", "normalizers": [["type": "NFKC"], ["type": "NFKC"]]]], "longer")
        let prepends = [[String: String]](repeating: ["type": "Prepend", "prepend": "abcdefgh"], count: 9)
        refused(["normalizer": ["type": "Sequence", "normalizers": prepends]], "longer")
        let marks = [[String: Any]](repeating: ["type": "Metaspace", "replacement": "▁", "split": false], count: 3)
        refused(["pre_tokenizer": ["type": "Sequence", "pretokenizers": marks]], "longer")
        let splits = [[String: Any]](repeating: ["type": "Digits", "individual_digits": true], count: 65)
        refused(["pre_tokenizer": ["type": "Sequence", "pretokenizers": splits]], "steps")
        let lower = [[String: String]](repeating: ["type": "StripAccents"], count: 65)
        refused(["normalizer": ["type": "Sequence", "normalizers": lower]], "steps")
        refused(["pre_tokenizer": ["type": "UnicodeScripts"]], "UnicodeScripts")
        refused(split(["Regex": "(?<=a)b"]), "(?<")
        refused(split(["String": "a"], "Eaten"), "Eaten")
        refused(["post_processor": ["type": "Klingon"]], "Klingon")
        refused(["decoder": ["type": "CTC"]], "CTC")
        refused(["decoder": ["type": "Strip", "content": "x", "start": 3, "stop": 1]], "content")
        refused(["added_tokens": [["id": 9, "content": "x"]]], "x")
    }

    private func replace(_ pattern: String, _ content: String) -> [String: Any] {
        ["type": "Replace", "pattern": ["Regex": pattern], "content": content]
    }

    @Test("Merges without tokens, or of nothing, and vocabularies with holes are named")
    func contradictions() throws {
        func refused(_ model: [String: Any], _ word: String) {
            let error = #expect(throws: FormatError.self) { try small([:], model: model) }
            #expect(error?.description.contains(word) == true, "\(word): \(error?.description ?? "")")
        }
        refused(["vocab": ["a": 0, "b": 7, "ab": 2]], "impossible id")
        refused(["vocab": ["a": 0, "b": 1, "ab": 1]], "impossible id")
        refused(["vocab": ["a": 0, "b": -1, "ab": 2]], "impossible id")
        refused(["vocab": ["a": 0, "b": 1, "c": 2]], "merges")
        refused(["merges": ["a x"]], "merges")
        // It would make of a token the token itself.
        refused(["merges": [["", "a"]]], "merges[0]")
        refused(["merges": [["a"]]], "merges[0]")
        refused(["merges": [1]], "merges[0]")
    }

    @Test("Merges that lead in a circle, as a container may have them, come to an end")
    func circles() throws {
        let folder = try TemporaryFolder()
        var metadata = MetadataEncoder()
        metadata.set("tokenizer.ggml.model", "gpt2")
        metadata.set("tokenizer.ggml.pre", "smollm")
        metadata.set("tokenizer.ggml.tokens", ["a", "b"])
        // a and b are a, a and a are b, b and b are a: whatever is there merges.
        metadata.set("tokenizer.ebb.merges", [0, 1, 0, 0, 0, 1, 1, 1, 0])
        metadata.set("tokenizer.ebb.merge_table", [0, 1, 2, -1])
        try EbbWriter(destination: folder.file("model.ebb"), metadata: metadata, shapes: []).finish()
        let tokenizer = try Tokenizer(try EbbFile(path: folder.file("model.ebb")).metadata)
        for count in [2, 100, 10_000] {
            let text = String(repeating: "ab", count: count)
            let ids = tokenizer.encode(text, addSpecial: false, parseSpecial: false)
            #expect(!ids.isEmpty && ids.count <= 2 * count)
        }
    }

    @Test("A tokenizer.json that contradicts config.json is named at import")
    func config() throws {
        var model = TinyBert()
        model.config["vocab_size"] = 5
        let folder = try model.folder()
        let file: [String: Any] = [
            "model": ["type": "BPE", "vocab": ["a": 0, "b": 1, "ab": 2], "merges": ["a b"]],
            "pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": false],
        ]
        try folder.write("tokenizer.json", Array(try JSONSerialization.data(withJSONObject: file)))
        let error = #expect(throws: FormatError.self) { try HuggingFaceFolder(path: folder.path) }
        #expect(error?.description.contains("3 tokens, config.json says 5") == true)
    }

    @Test("Tokens that differ in their bytes only are different tokens")
    func canonicalEquivalents() throws {
        // As one character and as two: Swift's strings are equal, a vocabulary's entries are not.
        let model = #"{"type":"BPE","merges":[["e","\u0301"]],"vocab":{"e":0,"\u0301":1,"é":2,"e\u0301":3}}"#
        let json = #"{"model":\#(model),"pre_tokenizer":{"type":"Whitespace"}}"#
        let tokenizer = try tokenizer(Array(json.utf8), count: 4)
        #expect(tokenizer.encode("é e\u{301}", addSpecial: true, parseSpecial: true) == [2, 3])
    }

    @Test(
        "A tokenizer.json that is no JSON, or says a key twice, is named",
        arguments: [
            "", "[]", "{", #"{"model":1,"model":2}"#, #"{"a":"\ud800"}"#, #"{"a":01}"#, #"{"a":1e999}"#,
            "{\"a\":\"\n\"}",
            #"{"a":[1,]}"#, #"{"a":tru}"#, "{} {}", #"{"a":"\u00g0"}"#, String(repeating: "[", count: 100_000),
        ])
    func damagedJSON(text: String) throws {
        let error = #expect(throws: FormatError.self) { try tokenizer(Array(text.utf8), count: 3) }
        #expect(error?.description.contains("tokenizer.json is not") == true, "\(error?.description ?? "")")
    }

    @Test("What a user writes makes no control token by being normalized")
    func normalizedControlTokens() throws {
        let tokenizer = try small(
            [
                "normalizer": ["type": "Lowercase"],
                "added_tokens": [
                    ["id": 3, "content": "<x>", "special": true, "normalized": true],
                    ["id": 4, "content": "<y>", "special": false, "normalized": true],
                ],
            ], tokens: 5)
        #expect(tokenizer.encode("<X>a<Y>", addSpecial: false, parseSpecial: true) == [3, 0, 4])
        #expect(tokenizer.encode("<X>a<Y>", addSpecial: false, parseSpecial: false) == [0, 4])
        let text = MarkedText(text: "<x>a<X><Y>", trusted: [0..<3], marks: "<x>")
        #expect(try tokenizer.encode(text) == [3, 0, 4])
        #expect(try tokenizer.encode(MarkedText(text: "<Y>", trusted: [], marks: "<y>")) == [])
    }
}
