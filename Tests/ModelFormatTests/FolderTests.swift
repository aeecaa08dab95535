import Foundation
import ModelFormat
import Testing
import TestKit

@Suite("Hugging Face folders")
struct FolderTests {
    private func refusal(_ change: (inout TinyBert) -> Void = { _ in }, without file: String? = nil) throws -> String {
        var model = TinyBert()
        change(&model)
        let folder = try model.folder()
        if let file { try FileManager.default.removeItem(atPath: folder.file(file)) }
        let error = #expect(throws: FormatError.self) {
            let source = try ModelSources.open(folder.path)
            try ModelImport(source).write(to: folder.file("out.ebb"))
        }
        #expect(!folder.names.contains { $0.hasPrefix("out.ebb") })
        return error?.description ?? ""
    }

    @Test("An import keeps every value")
    func exact() throws {
        let model = TinyBert()
        let folder = try model.folder()
        try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("out.ebb"))
        let source = EbbSource(try EbbFile(path: folder.file("out.ebb")))
        try source.file.verify()
        let names = ["token_embd.weight", "blk.1.ffn_down.weight", "blk.0.attn_q.bias"]
        let theirs = [
            "embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.weight",
            "encoder.layer.0.attention.self.query.bias",
        ]
        for (name, their) in zip(names, theirs) {
            let tensor = try #require(source.tensors.first { $0.name == name })
            var found: [Float] = []
            if tensor.isVector { found = try source.vector(tensor) }
            for channel in 0..<(tensor.isVector ? 0 : tensor.n) {
                var row = [Float](repeating: 0, count: tensor.k)
                try source.read(tensor, channel: channel, into: &row)
                found += row
            }
            #expect(found == model.weights.first { $0.name == their }?.values)
        }
    }

    @Test("A missing file is named", arguments: ["config.json", "tokenizer.json", "model.safetensors"])
    func missing(file: String) throws { #expect(try refusal(without: file).contains(file)) }

    @Test("What Ebb does not run is named: other model types, activations, pooling")
    func unsupported() throws {
        #expect(try refusal { $0.config["model_type"] = "parrot" }.contains("parrot"))
        #expect(try refusal { $0.config["hidden_act"] = "relu" }.contains("relu"))
        #expect(try refusal { $0.config["hidden_size"] = nil }.contains("hidden_size"))
        #expect(try refusal { $0.config["num_hidden_layers"] = 3 }.contains("encoder.layer.2"))
        #expect(try refusal { $0.config["num_hidden_layers"] = -1 }.contains("-1"))
        #expect(try refusal { $0.config["vocab_size"] = 7 }.contains("vocab") || true)
    }

    @Test(
        "A key of the configuration that Ebb does not know is refused, and a known one only where it changes something",
        arguments: ["auto_map", "alibi_slopes", "quantization_config"])
    func unknownKey(key: String) throws {
        #expect(try refusal { $0.config[key] = ["a": 1] }.contains("\"\(key)\""))
        #expect(try refusal { $0.config["is_decoder"] = true }.contains("\"is_decoder\" is true"))
        #expect(try refusal { $0.config["position_embedding_type"] = "relative_key" }.contains("relative_key"))
        var right = TinyBert()
        right.config.merge(["is_decoder": false, "torch_dtype": "float32", "pruned_heads": [String: Any]()]) { $1 }
        let folder = try right.folder()
        _ = try ModelSources.open(folder.path)
    }

    @Test("A tensor that would be left out is refused by name; what embeddings do not need may be there")
    func unknownTensor() throws {
        #expect(
            try refusal { $0.weights.append(("encoder.layer.2.output.dense.bias", [1], [0])) }.contains(
                "layer.2.output"))
        #expect(try refusal { $0.weights.append(("classifier.weight", [1], [0])) }.contains("classifier.weight"))
        var right = TinyBert()
        for name in ["pooler.dense.weight", "cls.predictions.bias", "embeddings.position_ids"] {
            right.weights.append((name, [1], [0]))
        }
        let folder = try right.folder()
        _ = try ModelSources.open(folder.path)
    }

    @Test("The names of older files are known: bert. before all, gamma and beta for the norms")
    func legacyNames() throws {
        var old = TinyBert()
        for index in old.weights.indices {
            old.weights[index].name =
                "bert."
                + old.weights[index].name.replacingOccurrences(of: "LayerNorm.weight", with: "LayerNorm.gamma")
                .replacingOccurrences(of: "LayerNorm.bias", with: "LayerNorm.beta")
        }
        func imported(_ bert: TinyBert) throws -> EbbFile {
            let folder = try bert.folder()
            try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("out.ebb"))
            return try EbbFile(path: folder.file("out.ebb"))
        }
        let (a, b) = (try imported(old), try imported(TinyBert()))
        #expect(a.names == b.names)
        for name in a.names {
            let (one, other) = (try #require(a.tensors[name]), try #require(b.tensors[name]))
            #expect(a.data(one).elementsEqual(b.data(other)), "\(name)")
        }
    }

    private func pooling(_ value: [String: Any]) throws -> String? {
        var bert = TinyBert()
        bert.setModules(["Transformer", "Pooling"])
        bert.files["1_Pooling/config.json"] = value
        let folder = try bert.folder()
        do {
            try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("out.ebb"))
        } catch let error as FormatError { return error.description }
        let metadata = try EbbFile(path: folder.file("out.ebb")).metadata
        #expect(metadata.bool("bert.normalize") == false)
        return metadata.integer("bert.pooling_type").map { "\($0)" }
    }

    @Test("Pooling is read in both spellings; two modes at once, and others, are refused by name")
    func pooling() throws {
        #expect(try pooling(["pooling_mode": "mean"]) == "1")
        #expect(try pooling(["pooling_mode": "cls", "embedding_dimension": 32]) == "2")
        #expect(try pooling(["pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false]) == "2")
        #expect(try pooling(["pooling_mode_mean_tokens": true, "include_prompt": true]) == "1")
        #expect(try pooling([:]) == "1")
        let both = try pooling(["pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true])
        #expect(both?.contains("cls and mean") == true)
        #expect(try pooling(["pooling_mode": "max"])?.contains("max") == true)
        #expect(try pooling(["pooling_mode_lasttoken": true])?.contains("mean and lasttoken") == true)
        #expect(try pooling(["pooling_mode_other": true])?.contains("pooling_mode_other") == true)
    }

    @Test("Modules that are not computed are refused by name, in whatever file they are asked for")
    func modules() throws {
        #expect(try refusal { $0.setModules(["Transformer", "Pooling", "CNN"]) }.contains("CNN"))
        #expect(try refusal { $0.setModules(["Transformer", "Normalize", "Pooling"]) }.contains("in this order"))
        #expect(try refusal { $0.setModules(["Transformer"]) }.contains("one Pooling"))
        #expect(
            try refusal {
                $0.files["modules.json"] = [["idx": 0, "path": "../other", "type": "a.Transformer"]]
            }.contains("one Pooling"))
        #expect(
            try refusal {
                $0.files["config_sentence_transformers.json"] = ["default_prompt_name": "query"]
            }.contains("default_prompt_name"))
        #expect(
            try refusal { $0.files["sentence_bert_config.json"] = ["do_lower_case": true] }.contains("do_lower_case"))
    }

    @Test("A dense layer that is not as its configuration says, or has another activation, is refused")
    func dense() throws {
        func bert(_ config: [String: Any], _ shape: [Int], name: String = "linear.weight") throws -> String {
            var bert = TinyBert()
            bert.setModules(["Transformer", "Pooling", "Dense"])
            bert.files["1_Pooling/config.json"] = ["pooling_mode": "mean"]
            bert.files["2_Dense/config.json"] = ["in_features": 32, "out_features": 8, "bias": false].merging(config) {
                $1
            }
            let folder = try bert.folder()
            let values = [Float](repeating: 1, count: shape.reduce(1, *))
            try folder.write("2_Dense/model.safetensors", try TinyBert.safetensors([(name, shape, values)]))
            return #expect(throws: FormatError.self) { try ModelSources.open(folder.path) }?.description ?? ""
        }
        #expect(try bert(["activation_function": "torch.nn.modules.activation.GELU"], [8, 32]).contains("GELU"))
        #expect(try bert([:], [8, 16]).contains("linear.weight is not [8, 32]"))
        #expect(try bert([:], [8, 32], name: "other.weight").contains("other.weight"))
        #expect(try bert(["in_features": 16], [8, 16]).contains("in_features is 16"))
        #expect(try bert(["bias": true], [8, 32]).contains("linear.bias"))
        #expect(try bert(["module_input_name": "token_embeddings"], [8, 32]).contains("token_embeddings"))
    }

    /// What an import says of a folder whose tokenizer.json has one key set, or tokenizer_config.json another.
    private func tokenizerRefusal(_ path: [String], _ value: Any, config: [String: Any]? = nil) throws -> String? {
        let folder = try TinyBert().folder()
        let name = folder.file("tokenizer.json")
        let data = try #require(FileManager.default.contents(atPath: name))
        func setting(_ object: Any, _ path: ArraySlice<String>) -> Any {
            guard let key = path.first else { return value }
            var members = object as? [String: Any] ?? [:]
            members[key] = setting(members[key] ?? [String: Any](), path.dropFirst())
            return members
        }
        let changed = setting(try JSONSerialization.jsonObject(with: data), path[...])
        try folder.write("tokenizer.json", Array(try JSONSerialization.data(withJSONObject: changed)))
        if let config {
            try folder.write("tokenizer_config.json", Array(try JSONSerialization.data(withJSONObject: config)))
        }
        do { _ = try ModelSources.open(folder.path) } catch { return "\(error)" }
        return nil
    }

    @Test("What a tokenizer.json says and Ebb does not do is refused by its name")
    func tokenizerOptions() throws {
        let added = { (key: String, value: Any) -> [[String: Any]] in [["id": 1, "content": "[UNK]", key: value]] }
        let cases: [([String], Any, String)] = [
            (["model", "type"], "WordLevel", "WordLevel"), (["model", "dropout"], 0.1, "model: dropout"),
            (["model", "continuing_subword_prefix"], "", "continuing_subword_prefix"),
            (["model", "max_input_chars_per_word"], -1, "max_input_chars_per_word"),
            (["model", "unk_token"], "<unk>", "unk_token"),
            (["normalizer"], ["type": "Precompiled"], "precompiled_charsmap"),
            (["normalizer", "strip_accent"], true, "normalizer: strip_accent"),
            (["normalizer", "lowercase"], "yes", "normalizer: lowercase"),
            (
                ["normalizer"], ["type": "Sequence", "normalizers": [["type": "ByteLevel"]]],
                "normalizers[0]: type is \"ByteLevel\""
            ),
            (["pre_tokenizer"], ["type": "UnicodeScripts"], "UnicodeScripts"),
            (["post_processor"], ["type": "Special"], "Special"),
            (["post_processor"], ["type": "TemplateProcessing", "single": [], "pair": []], "post_processor: single"),
            (["post_processor"], NSNull(), "post_processor"), (["truncation"], ["direction": "Left"], "direction"),
            (["added_tokens"], added("single_word", true), "added_tokens[0]: single_word"),
            (["added_tokens"], added("special", false), "added_tokens[0]: special"),
            (["added_tokens"], [["id": 99, "content": "x"]], "added_tokens[0]: id"), (["extra"], 1, "extra"),
        ]
        for (path, value, name) in cases {
            let why = try tokenizerRefusal(path, value)
            #expect(why?.contains(name) == true, "\(path): \(why ?? "accepted")")
        }
        let why = try tokenizerRefusal(["version"], "1.0", config: ["do_lower_case": false])
        #expect(why?.contains("do_lower_case") == true)
    }

    @Test("What a tokenizer.json says beside that is known not to matter")
    func harmlessTokenizerOptions() throws {
        let template: [String: Any] = [
            "type": "TemplateProcessing",
            "single": [
                ["SpecialToken": ["id": "[CLS]", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]],
                ["SpecialToken": ["id": "[SEP]", "type_id": 0]],
            ],
            "special_tokens": [
                "[CLS]": ["id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]],
                "[SEP]": ["id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]],
            ],
        ]
        let config: [String: Any] = ["do_lower_case": true, "model_max_length": 1e30, "strip_accents": NSNull()]
        #expect(try tokenizerRefusal(["post_processor"], template, config: config) == nil)
        #expect(try tokenizerRefusal(["padding"], ["strategy": ["Fixed": 128]]) == nil)
        #expect(try tokenizerRefusal(["decoder"], ["type": "WordPiece", "cleanup": true]) == nil)
        #expect(try tokenizerRefusal(["truncation"], ["direction": "Right", "max_length": 12, "stride": 0]) == nil)
    }

    @Test("A safetensors file that is cut anywhere is refused, never a trap")
    func truncated() throws {
        let model = TinyBert()
        let folder = try model.folder()
        let whole = try model.safetensors()
        for length in stride(from: 0, to: whole.count, by: 1201) {
            try folder.write("model.safetensors", Array(whole[..<length]))
            #expect(throws: FormatError.self, "\(length) bytes") { try ModelSources.open(folder.path) }
        }
    }

    @Test("Random changes to a safetensors header never trap")
    func fuzz() throws {
        let model = TinyBert()
        let folder = try model.folder()
        let whole = try model.safetensors()
        var random = TestRandom(seed: 5)
        for _ in 0..<300 {
            var bytes = whole
            for _ in 0..<2 {
                bytes[Int.random(in: 0..<4000, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
            try folder.write("model.safetensors", bytes)
            guard let source = try? ModelSources.open(folder.path) else { continue }
            try? ModelImport(source).write(to: folder.file("fuzz.ebb"))
        }
    }

    @Test(
        "Offsets and shapes that overflow are refused", arguments: ["9223372036854775807", "-1", "4611686018427387904"])
    func overflow(number: String) throws {
        let folder = try TinyBert().folder()
        for entry in [
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[\(number),\(number)],\"data_offsets\":[0,4]}}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[\(number),\(number)]}}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,\(number)]}}",
        ] {
            let length = withUnsafeBytes(of: UInt64(entry.utf8.count).littleEndian) { Array($0) }
            try folder.write("model.safetensors", length + entry.utf8 + [0, 0, 0, 0])
            #expect(throws: FormatError.self) { try ModelSources.open(folder.path) }
        }
    }
}
