import Foundation
import ModelFormat
import TestKit
import Testing

@Suite("Import of adapters")
struct AdapterImportTests {
    private static func base(_ name: String = "llama") throws -> EbbFile {
        let folder = try TinyDecoder(name).folder()
        try ModelImport(try HuggingFaceFolder(path: folder.path)).write(to: folder.file("base.ebb"))
        return try EbbFile(path: folder.file("base.ebb"))
    }

    /// What import says to a folder of PEFT's; nil where it takes it.
    private static func refusal(
        base: String = "llama", _ change: (inout AdapterReference) throws -> Void
    ) throws -> String? {
        var reference = try AdapterReference("llama")
        try change(&reference)
        let folder = try reference.folder()
        do {
            let source = try AdapterSource(path: folder.path, for: try Self.base(base), named: "base")
            try source.write(to: folder.file("adapter.ebb"))
            return nil
        } catch let error as FormatError {
            return error.description
        }
    }

    private static func refusalOfGGUF(_ change: (inout GGUFBuilder) -> Void) throws -> String? {
        let folder = try TemporaryFolder()
        let path = try folder.write("adapter.gguf", try AdapterReference("llama").gguf(change: change))
        do {
            _ = try AdapterSource(path: path, for: try base(), named: "base")
            return nil
        } catch let error as FormatError {
            return error.description
        }
    }

    @Test("An adapter as it was saved is taken, with and without what changes nothing")
    func taken() throws {
        #expect(try Self.refusal { _ in } == nil)
        #expect(try Self.refusal { $0.config["lora_dropout"] = 0.1 } == nil)
        #expect(try Self.refusalOfGGUF { _ in } == nil)
    }

    struct Setting: Sendable, CustomStringConvertible {
        let key: String
        /// JSON.
        let value: String
        var description: String { "\(key): \(value)" }
    }

    @Test(
        "A setting that Ebb would leave out is refused by name",
        arguments: [
            Setting(key: "use_dora", value: "true"), Setting(key: "bias", value: "\"all\""),
            Setting(key: "modules_to_save", value: "[\"lm_head\"]"), Setting(key: "fan_in_fan_out", value: "true"),
            Setting(key: "peft_type", value: "\"LOHA\""), Setting(key: "init_lora_weights", value: "\"pissa\""),
            Setting(key: "layer_replication", value: "[[0, 1]]"), Setting(key: "a_new_key", value: "3"),
            Setting(key: "rank_pattern", value: "{\"(q|k)_proj\": 2}"), Setting(key: "r", value: "0"),
            Setting(key: "r", value: "100000"), Setting(key: "lora_alpha", value: "\"much\""),
            Setting(key: "alpha_pattern", value: "{\"q_proj\": -1}"),
        ])
    func settings(setting: Setting) throws {
        let value = try JSONSerialization.jsonObject(with: Data(setting.value.utf8), options: .fragmentsAllowed)
        let said = try Self.refusal { $0.config[setting.key] = value }
        #expect(said?.contains(setting.key) == true, "\(said ?? "taken")")
    }

    @Test("A rank that the matrices do not have is refused")
    func rank() throws {
        let said = try Self.refusal { $0.config["r"] = 3 }
        #expect(said?.contains("rank of 3") == true, "\(said ?? "taken")")
    }

    struct Renaming: Sendable, CustomStringConvertible {
        let from, to, word: String
        var description: String { to }
    }

    private static let layer = "base_model.model.model.layers.0."

    @Test(
        "A tensor that is no part of it is refused by name",
        arguments: [
            Renaming(
                from: "self_attn.q_proj.lora_A.weight", to: "self_attn.q_proj.lora_C.weight", word: "no part of a LoRA"),
            Renaming(
                from: "self_attn.q_proj.lora_B.weight", to: "self_attn.q_proj.bias", word: "lora_B.weight is missing"),
            Renaming(from: "self_attn.q_proj.lora_A.weight", to: "self_attn.r_proj.lora_A.weight", word: "missing"),
        ])
    func tensors(renaming: Renaming) throws {
        let said = try Self.refusal { reference in
            for index in reference.weights.tensors.indices
            where reference.weights.tensors[index].name == Self.layer + renaming.from {
                reference.weights.tensors[index].name = Self.layer + renaming.to
            }
        }
        #expect(said?.contains(renaming.word) == true, "\(said ?? "taken")")
    }

    @Test(
        "A module that the model has not, or that Ebb cannot adapt, is refused by name",
        arguments: [
            ("model.layers.7.self_attn.q_proj", "layers.7"), ("model.layers.0.self_attn.z_proj", "z_proj"),
            ("model.embed_tokens", "embedding"), ("model.layers.-1.mlp.up_proj", "layers.-1"),
        ])
    func modules(module: String, word: String) throws {
        let said = try Self.refusal { reference in
            for half in ["A", "B"] {
                let name = "base_model.model.\(module).lora_\(half).weight"
                reference.weights.add(name, half == "A" ? [4, 64] : [64, 4], [Float](repeating: 1, count: 256))
            }
        }
        #expect(said?.contains(word) == true, "\(said ?? "taken")")
    }

    @Test(
        "Modules may be called as they are in any checkpoint of a decoder",
        arguments: ["model.", "language_model.model.", "model.language_model.", ""])
    func spellings(place: String) throws {
        let said = try Self.refusal { reference in
            for index in reference.weights.tensors.indices {
                let name = reference.weights.tensors[index].name
                reference.weights.tensors[index].name = name.replacingOccurrences(
                    of: "base_model.model.model.", with: "base_model.model." + place)
            }
        }
        #expect(said == nil)
    }

    @Test("Two modules that are one weight are refused")
    func twice() throws {
        let said = try Self.refusal { reference in
            for tensor in reference.weights.tensors where tensor.name.contains("layers.0.self_attn.q_proj") {
                let name = tensor.name.replacingOccurrences(
                    of: "model.model.layers", with: "model.language_model.model.layers")
                reference.weights.add(name, tensor.type, tensor.shape, tensor.data)
            }
        }
        #expect(said?.contains("two of its modules are blk.0.attn_q.weight") == true, "\(said ?? "taken")")
    }

    @Test("An adapter of another model is refused")
    func otherModels() throws {
        // Its feed-forward part is as wide, its family another.
        #expect(try Self.refusalOfGGUF { $0.set("general.architecture", .string("qwen2")) }?.contains("qwen2") == true)
        let said = try Self.refusal(base: "phi3") { _ in }
        #expect(said?.contains("phi3 has no module") == true, "\(said ?? "taken")")
    }

    @Test("Values that are no numbers are refused, and leave no file")
    func notFinite() throws {
        let said = try Self.refusal { reference in
            reference.weights.tensors[0].data.replaceSubrange(0..<4, with: [0, 0, 0xc0, 0x7f])
        }
        #expect(said?.contains("NaN") == true, "\(said ?? "taken")")
    }

    @Test(
        "Contradicting GGUFs are refused",
        arguments: [
            ("adapter.type", GGUFBuilder.Value.string("ia3"), "ia3"), ("general.type", .string("model"), "no adapter"),
            ("adapter.lora.alpha", .string("x"), "alpha"), ("adapter.lora.alpha", .float32(.infinity), "alpha"),
            ("adapter.alora.invocation_tokens", .int32s([1]), "alora"),
        ])
    func ggufs(key: String, value: GGUFBuilder.Value, word: String) throws {
        let said = try Self.refusalOfGGUF { $0.set(key, value) }
        #expect(said?.contains(word) == true, "\(said ?? "taken")")
    }

    @Test("Ranks of A and B that differ are refused, and halves of a pair")
    func pairs() throws {
        let name = "blk.0.attn_q.weight.lora_a"
        let missing = try Self.refusalOfGGUF { $0.tensors.removeAll { $0.name == name } }
        #expect(missing?.contains("lora_b") == true, "\(missing ?? "taken")")
        let other = try Self.refusalOfGGUF { builder in
            builder.tensors.removeAll { $0.name == name }
            builder.tensors.append(.f32(name, [64, 5], [Float](repeating: 1, count: 320)))
        }
        #expect(other?.contains("rank") == true, "\(other ?? "taken")")
    }

    @Test("An adapter is no model, and a model no adapter")
    func kinds() throws {
        let folder = try TemporaryFolder()
        let base = try Self.base()
        let path = try folder.write("adapter.gguf", try AdapterReference("llama").gguf())
        try AdapterSource(path: path, for: base, named: "base").write(to: folder.file("adapter.ebb"))
        let adapter = try EbbFile(path: folder.file("adapter.ebb"))
        #expect(AdapterSource.isAdapter(adapter.metadata) && !AdapterSource.isAdapter(base.metadata))
        #expect(throws: FormatError.self) { try AdapterSource(path: path, for: adapter, named: "adapter") }
        let model = try folder.write("model.gguf", try TinyDecoder("llama").gguf())
        #expect(throws: FormatError.self) { try AdapterSource(path: model, for: base, named: "base") }
    }
}
