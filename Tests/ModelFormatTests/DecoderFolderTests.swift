import Foundation
import ModelFormat
import Testing
import TestKit

@Suite("Folders of decoders")
struct DecoderFolderTests {
    /// Keys that an import of a folder has beyond those of llama.cpp's GGUF, which loses those settings.
    private static let kept = [
        "mistral": ["llama.attention.sliding_window"], "gemma2": ["gemma2.attention.scale"],
        "gemma3": ["gemma3.attention.scale"],
    ]

    private func imported(_ model: TinyDecoder) throws -> (EbbSource, TemporaryFolder) {
        let folder = try model.folder()
        try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("out.ebb"))
        let source = EbbSource(try EbbFile(path: folder.file("out.ebb")))
        try source.file.verify()
        return (source, folder)
    }

    private func refusal(_ name: String, _ change: (inout TinyDecoder) -> Void) throws -> String {
        var model = try TinyDecoder(name)
        change(&model)
        let folder = try model.folder()
        let error = #expect(throws: FormatError.self, "\(name)") { try ModelSources.open(folder.path) }
        return error?.description ?? ""
    }

    private func values(_ source: EbbSource, _ tensor: SourceTensor) throws -> [Float] {
        if tensor.isVector { return try source.vector(tensor) }
        return try (0..<tensor.n).flatMap { channel in
            var row = [Float](repeating: 0, count: tensor.k)
            try source.read(tensor, channel: channel, into: &row)
            return row
        }
    }

    @Test(
        "An import has the tensors that llama.cpp's converter makes of the folder, value for value",
        arguments: TinyDecoder.names, ["F32", "F16", "BF16"])
    func tensors(name: String, type: String) throws {
        let model = try TinyDecoder(name, type: type)
        let (source, folder) = try imported(model)
        #expect(Set(source.file.names) == Set(model.tensors.compactMap { $0["name"] as? String }))
        for entry in model.tensors {
            let (name, shape) = (entry["name"] as? String, (entry["shape"] as? [Int]) ?? [])
            let tensor = try #require(source.tensors.first { $0.name == name }, "\(name ?? "")")
            #expect(tensor.isVector == (shape.count == 1), "\(tensor.name)")
            #expect(tensor.n == shape.prefix(max(shape.count - 1, 1)).reduce(1, *), "\(tensor.name)")
            #expect(tensor.isVector || tensor.k == shape.last, "\(tensor.name)")
            let (found, expected) = (try values(source, tensor), model.expected(entry))
            if entry["op"] as? String == "values" {
                #expect(zip(found, expected).allSatisfy { abs($0 - $1) <= 2e-6 * abs($1) }, "\(tensor.name)")
                #expect(found.count == expected.count)
            } else {
                #expect(found == expected, "\(tensor.name)")
            }
        }
        _ = folder
    }

    @Test(
        "An import has the settings that llama.cpp's converter writes, and what that leaves out under keys of its own",
        arguments: TinyDecoder.names)
    func settings(name: String) throws {
        let model = try TinyDecoder(name)
        let (source, folder) = try imported(model)
        let metadata = source.file.metadata
        for (key, field) in model.metadata {
            if let number = field["value"] as? NSNumber {
                let (found, expected) = (metadata.float(key) ?? .nan, number.floatValue)
                #expect(abs(found - expected) <= 1e-7 * abs(expected), "\(key): \(found), not \(number)")
            } else {
                #expect(metadata.string(key) == field["value"] as? String, "\(key)")
            }
        }
        #expect(Self.kept[name] == nil || !model.lost.isEmpty)
        let own = metadata.keys.filter { key in
            !["general.name"].contains(key) && !key.hasPrefix("tokenizer.") && !key.hasPrefix("ebb.")
        }
        #expect(Set(own) == Set(model.metadata.keys).union(Self.kept[name] ?? []))
        _ = folder
    }

    @Test("A key of the configuration that nobody knows is refused by name", arguments: TinyDecoder.names)
    func unknownKey(name: String) throws {
        #expect(try refusal(name) { $0.config["parrots"] = 2 }.contains("\"parrots\""))
        #expect(try refusal(name) { $0.config["hidden_act"] = "relu" }.contains("relu"))
        #expect(try refusal(name) { $0.config["num_hidden_layers"] = 0 }.contains("num_hidden_layers"))
        let scaling = ["rope_type": "parrot", "factor": 2.0] as [String: Any]
        #expect(try refusal(name) { $0.config["rope_scaling"] = scaling }.contains("parrot"))
        let unknown = ["rope_type": "default", "bird": 2.0] as [String: Any]
        #expect(try refusal(name) { $0.config["rope_scaling"] = unknown }.contains("bird"))
    }

    /// What the published configurations of models of each family say beyond those of the references.
    private static var published: [(name: String, config: [String: Any])] {
        let code: [String: Any] = ["AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"]
        let sense: [String: Any] = ["rope_theta": 10000.0, "rope_type": "default"]
        return [
            (
                "llama",
                ["is_llama_config": true, "rope_interleaved": false, "torch_dtype": "bfloat16", "_name_or_path": "a"]
            ),
            ("llama", ["rope_parameters": sense, "rope_theta": NSNull(), "transformers.js_config": ["dtype": "q4"]]),
            ("mistral", ["sliding_window": NSNull(), "quantization_config": NSNull()]),
            ("qwen2", ["sliding_window": 131_072, "use_mrope": false, "max_window_layers": 21]),
            (
                "qwen3",
                [
                    "rope_scaling": ["type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64]
                        as [String: Any]
                ]
            ),
            (
                "gemma2",
                ["hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid", "sliding_window_size": 24]
            ),
            ("gemma3", ["sliding_window_pattern": 6, "layer_types": NSNull(), "cache_implementation": "hybrid"]),
            ("phi3", ["auto_map": code, "attention_bias": false, "rope_scaling": NSNull(), "sliding_window": 2047]),
            ("phi3-partial", ["full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": false, "mlp_bias": false]),
            ("granite", ["attention_dropout": 0.1]), ("smollm3", ["pretraining_tp": 2, "max_window_layers": 28]),
            ("olmo2", ["rope_theta": 500_000]), ("olmoe", ["clip_qkv": NSNull()]),
            ("gpt-oss", ["experts_per_token": 2, "initial_context_length": 32]),
            ("qwen3moe", ["max_window_layers": 48, "output_router_logits": false]),
        ]
    }

    @Test("What published configurations say is known", arguments: 0..<15)
    func published(index: Int) throws {
        #expect(Self.published.count == 15)
        let (name, config) = Self.published[index]
        var model = try TinyDecoder(name)
        model.config.merge(config) { $1 }
        let folder = try model.folder()
        #expect(throws: Never.self, "\(name)") { try ModelSources.open(folder.path) }
    }

    @Test("Settings that another model's results need are refused by name")
    func otherModels() throws {
        for (name, key, value) in [
            ("qwen2", "use_sliding_window", true), ("qwen3moe", "norm_topk_prob", false),
            ("qwen3moe", "decoder_sparse_step", 2),
            ("qwen3moe", "mlp_only_layers", [1]), ("olmoe", "norm_topk_prob", true), ("olmoe", "clip_qkv", 8.0),
            ("smollm3", "no_rope_layers", [1, 1, 1, 1]), ("smollm3", "use_sliding_window", true),
            ("gpt-oss", "swiglu_limit", 5.0), ("gpt-oss", "layer_types", ["full_attention"]),
            ("granite", "head_dim", 32),
            ("gemma3", "attn_logit_softcapping", 50.0), ("llama", "auto_map", ["a": "b"]), ("llama", "mlp_bias", true),
            ("phi3", "head_dim", 32), ("olmo2", "sliding_window", 24), ("qwen3", "attention_bias", true),
            ("llama", "num_key_value_heads", 0), ("llama", "rms_norm_eps", NSNull()), ("llama", "vocab_size", 95),
        ] as [(String, String, Any)] {
            #expect(try refusal(name) { $0.config[key] = value }.contains(key), "\(name): \(key)")
        }
        let longrope: [String: Any] = ["rope_type": "longrope", "factor": 2]
        #expect(try refusal("llama") { $0.config["rope_scaling"] = longrope }.contains("longrope"))
        let short: [String: Any] = ["type": "longrope", "short_factor": [1], "long_factor": [1]]
        #expect(try refusal("phi3") { $0.config["rope_scaling"] = short }.contains("long_factor"))
        let narrow: [String: Any] = ["rope_type": "llama3", "low_freq_factor": 4, "high_freq_factor": 4]
        #expect(try refusal("llama") { $0.config["rope_scaling"] = narrow }.contains("high_freq_factor"))
    }

    @Test("Factors of RoPE that are 0, negative or too small for a float are refused by name")
    func ropeFactors() throws {
        for kind in ["long_factor", "short_factor"] {
            for factor in [0, -1, 1e-300, 1e300] {
                let text = try refusal("phi3") { model in
                    var scaling = model.config["rope_scaling"] as? [String: Any] ?? [:]
                    var factors = scaling[kind] as? [Any] ?? []
                    factors[3] = factor
                    scaling[kind] = factors
                    model.config["rope_scaling"] = scaling
                }
                #expect(text.contains(kind), "\(factor)")
            }
        }
        for (name, key, value) in [
            ("phi3", "attention_factor", 0), ("llama-yarn", "attention_factor", 0), ("llama-yarn", "factor", 0),
            ("llama-llama3", "factor", 1e-300), ("llama-linear", "factor", 1e-300),
        ] as [(String, String, Double)] {
            let text = try refusal(name) { model in
                var scaling = model.config["rope_scaling"] as? [String: Any] ?? [:]
                scaling[key] = value
                model.config["rope_scaling"] = scaling
            }
            #expect(text.contains("\"\(key)\""), "\(name) \(value): \(text)")
        }
    }

    @Test("A modules.json that is no JSON, or of another shape, is refused in a sentence that says where")
    func wrongModules() throws {
        for (text, part) in [
            ("{\"idx\"", "not valid JSON at byte"), ("", "not valid JSON at byte"), ("{}", "it is not a list"),
            ("[1]", "[0] is not an object"), ("[{\"path\": \"\"}]", "[0].type is missing"),
            ("[{\"path\": \"\", \"type\": 5}]", "[0].type is not text"),
            ("[{\"path\": null, \"type\": \"a\"}]", "[0].path is null, not text"),
        ] {
            let error = try refusal("qwen3") { $0.files = [("modules.json", Array(text.utf8))] }
            #expect(error.contains(part) && error.contains("modules.json"), "\(error)")
            #expect(!error.contains("Swift") && !error.contains("Context"), "\(error)")
        }
    }

    @Test("A special token that the embedding has no row for is no token; another one is refused")
    func tokensWithoutRows() throws {
        func folder(isSpecial: Bool) throws -> TemporaryFolder {
            var model = try TinyDecoder("qwen3")
            var added = model.tokenizer["added_tokens"] as? [[String: Any]] ?? []
            added.append(["id": 96, "content": "<picture>", "special": isSpecial])
            model.tokenizer["added_tokens"] = added
            return try model.folder()
        }
        let special = try folder(isSpecial: true)
        try ModelImport(try ModelSources.open(special.path)).write(to: special.file("model.ebb"))
        #expect(Vocabulary.count(try EbbFile(path: special.file("model.ebb")).metadata) == 96)
        let other = try folder(isSpecial: false)
        #expect(throws: FormatError.self) { try ModelSources.open(other.path) }
    }

    @Test("modules.json makes an embedding model of a decoder, which needs no output head")
    func embedding() throws {
        var model = try TinyDecoder("qwen3")
        model.config["tie_word_embeddings"] = false
        let modules = #"[{"idx":0,"path":"","type":"a.Transformer"},{"idx":1,"path":"1_Pooling","type":"a.Pooling"}]"#
        model.files = [("modules.json", Array(modules.utf8))]
        let folder = try model.folder()
        try FileManager.default.createDirectory(atPath: folder.file("1_Pooling"), withIntermediateDirectories: true)
        try folder.write("1_Pooling/config.json", Array(#"{"pooling_mode_mean_tokens":true}"#.utf8))
        try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("model.ebb"))
        let file = try EbbFile(path: folder.file("model.ebb"))
        #expect(file.metadata.integer("qwen3.pooling_type") == 1)
        #expect(file.metadata.bool("qwen3.normalize") == false)
        #expect(!file.names.contains("output.weight"))
    }

    @Test("A tensor that is missing, of another shape or not used is refused by name", arguments: TinyDecoder.names)
    func wrongTensors(name: String) throws {
        let down = try #require(
            try TinyDecoder(name).weights.tensors.map(\.name).first {
                $0.contains("layers.1.") && $0.contains("down_proj")
            })
        #expect(try refusal(name) { $0.weights.tensors.removeAll { $0.name == down } }.contains(down))
        #expect(
            try refusal(name) { $0.weights.add("model.layers.1.parrot.weight", [1], [Float(0)]) }
                .contains("layers.1.parrot.weight"))
        #expect(
            try refusal(name) { model in
                if let index = model.weights.tensors.firstIndex(where: { $0.name == down }) {
                    model.weights.tensors[index].type = "F64"
                }
            }.contains(down))
    }

    @Test(
        "A tokenizer with fewer tokens than the embedding has rows is filled up; with more it is refused")
    func vocabulary() throws {
        var model = try TinyDecoder("llama")
        func setCount(_ count: Int) {
            var bytePair = (model.tokenizer["model"] as? [String: Any]) ?? [:]
            let vocabulary = (bytePair["vocab"] as? [String: Int]) ?? [:]
            bytePair["vocab"] = vocabulary.filter { $0.value < count }
            if count > vocabulary.count { bytePair["vocab"] = vocabulary.merging(["more": vocabulary.count]) { $1 } }
            model.tokenizer["model"] = bytePair
        }
        setCount(97)
        let folder = try model.folder()
        #expect(throws: FormatError.self) { try ModelSources.open(folder.path) }
        setCount(80)
        let (source, kept) = try imported(model)
        #expect(try Vocabulary(source.file.metadata).count == 96)
        _ = kept
    }

    @Test("Tokens that begin and end texts come from all files that name them")
    func ends() throws {
        var model = try TinyDecoder("llama")
        func metadata() throws -> Metadata { try imported(model).0.file.metadata }
        func id(_ name: String) throws -> Int? { try metadata().integer("tokenizer.ggml.\(name)_token_id") }
        #expect(try id("bos") == 1 && id("eos") == 2 && id("eot") == nil)
        #expect(try metadata().bool("tokenizer.ggml.add_bos_token") == false)
        model.config["eos_token_id"] = [5, 6]
        #expect(try id("eos") == 5 && id("eot") == 6)
        model.files = [("tokenizer_config.json", Array(#"{"eos_token":{"content":"A"},"add_bos_token":true}"#.utf8))]
        #expect(try id("eos") == 35 && id("eot") == 5 && id("eom") == 6)
        #expect(try metadata().bool("tokenizer.ggml.add_bos_token") == true)
        model.files.append(("generation_config.json", Array(#"{"eos_token_id":[6,7]}"#.utf8)))
        let folder = try model.folder()
        let error = #expect(throws: FormatError.self) { try ModelSources.open(folder.path) }
        #expect(error?.description.contains("eos_token_id") == true)
        model.files[1].bytes = Array(#"{"eos_token_id":400}"#.utf8)
        model.config["eos_token_id"] = nil
        let other = try model.folder()
        #expect(throws: FormatError.self) { try ModelSources.open(other.path) }
    }

    @Test("A chat template comes from a file of its own or from tokenizer_config.json, named ones too")
    func templates() throws {
        var model = try TinyDecoder("llama")
        func metadata() throws -> Metadata { try imported(model).0.file.metadata }
        #expect(try metadata().string("tokenizer.chat_template") == nil)
        let named = #"{"chat_template":[{"name":"default","template":"one"},{"name":"tools","template":"two"}]}"#
        model.files = [("tokenizer_config.json", Array(named.utf8))]
        #expect(try metadata().string("tokenizer.chat_template") == "one")
        #expect(try metadata().string("tokenizer.chat_template.tools") == "two")
        model.files.append(("chat_template.jinja", Array("three".utf8)))
        #expect(try metadata().string("tokenizer.chat_template") == "three")
        let folder = try model.folder()
        try ModelImport(try ModelSources.open(folder.path), chatTemplate: "four").write(to: folder.file("out.ebb"))
        #expect(try EbbFile(path: folder.file("out.ebb")).metadata.string("tokenizer.chat_template") == "four")
    }

    @Test("A model that sees as well is imported as what reads text")
    func otherSenses() throws {
        var model = try TinyDecoder("gemma3")
        var text = model.config
        text["vocab_size"] = nil
        model.config = [
            "model_type": "gemma3", "text_config": text, "vision_config": ["a": 1], "mm_tokens_per_image": 256,
            "image_token_index": 7, "eos_token_id": [2, 5],
        ]
        for index in model.weights.tensors.indices {
            model.weights.tensors[index].name = "language_model." + model.weights.tensors[index].name
        }
        model.weights.add("vision_tower.vision_model.embeddings.patch.weight", [2, 2], [Float](repeating: 1, count: 4))
        model.weights.add("multi_modal_projector.norm.weight", [2], [Float](repeating: 1, count: 2))
        let (source, folder) = try imported(model)
        #expect(Set(source.file.names) == Set(model.tensors.compactMap { $0["name"] as? String }))
        model.config["parrots"] = 1
        let wrong = try model.folder()
        #expect(throws: FormatError.self) { try ModelSources.open(wrong.path) }
        _ = folder
    }
}
