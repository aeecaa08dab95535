import Engine
import ModelFormat
import Testing
import TestKit

@Suite("Settings of a file")
struct SettingsTests {
    private let prompt: [Int32] = (0..<45).map { Int32($0 * 13 % 300) }

    /// The engine's logits of a tiny llama, and those of the equations in double precision.
    private func both(
        _ change: @escaping (inout GGUFBuilder) -> Void, _ reference: (inout DoubleLlama) -> Void = { _ in }
    ) throws -> (engine: [Float], equations: [Float]) {
        let model = try Models.tiny(change: change)
        var double = DoubleLlama(change: change)
        reference(&double)
        return (try model.lastLogits(model.makeSequence(), prompt), double.logits(prompt))
    }

    /// Keys and values are halves in the cache; a setting that is left out is off by a hundred times as much.
    private static let tolerance: Float = 2e-3

    @Test("A plain llama computes what the equations say")
    func plain() throws {
        let (engine, equations) = try both { _ in }
        #expect(shareOfRange(equations, engine) < Self.tolerance)
    }

    @Test(
        "A llama's biases on the attention's products are added",
        arguments: [
            ["attn_q"], ["attn_k"], ["attn_v"], ["attn_output"], ["attn_q", "attn_k", "attn_v", "attn_output"],
        ])
    func biases(names: [String]) throws {
        let change = { (builder: inout GGUFBuilder) in
            var random = TestRandom(seed: 3)
            for layer in 0..<2 {
                for name in names {
                    let count = name == "attn_k" || name == "attn_v" ? 32 : 64
                    builder.tensors.append(
                        .f32("blk.\(layer).\(name).bias", [UInt64(count)], random.floats(count).map { $0 * 2 }))
                }
            }
        }
        let (engine, equations) = try both(change)
        #expect(shareOfRange(equations, engine) < Self.tolerance)
        // The same number on all keys of a head moves all scores alike; random ones do not.
        let without = try both { _ in }.engine
        #expect(shareOfRange(without, engine) > 20 * Self.tolerance)
    }

    @Test("Linear RoPE scaling divides positions, in both spellings; type none does not, and 0 is no factor")
    func linearScaling() throws {
        func scaled(_ pairs: [(String, GGUFBuilder.Value)], _ factor: Double) throws -> [Float] {
            let (engine, equations) = try both {
                for (key, value) in pairs { $0.set("llama.rope.\(key)", value) }
            } _: {
                $0.factors = Array(repeating: factor, count: 8)
            }
            #expect(shareOfRange(equations, engine) < Self.tolerance, "\(pairs)")
            return engine
        }
        let new = try scaled([("scaling.type", .string("linear")), ("scaling.factor", .float32(4))], 4)
        #expect(try scaled([("scale_linear", .float32(4))], 4) == new)
        #expect(try scaled([("scaling.factor", .float32(4))], 4) == new)
        let plain = try scaled([("scaling.type", .string("none")), ("scaling.factor", .float32(4))], 1)
        #expect(try scaled([("scaling.factor", .float32(0)), ("scale_linear", .float32(0))], 1) == plain)
        #expect(shareOfRange(plain, new) > 20 * Self.tolerance)
    }

    @Test("Llama 3's factors divide each frequency by its own")
    func frequencyFactors() throws {
        let factors: [Float] = [1, 1, 1.5, 2, 4, 8, 8, 8]
        let (engine, equations) = try both {
            $0.tensors.append(.f32("rope_freqs.weight", [8], factors))
        } _: {
            $0.factors = factors.map(Double.init)
        }
        #expect(shareOfRange(equations, engine) < Self.tolerance)
        #expect(throws: FormatError.self) {
            try Models.tiny { $0.tensors.append(.f32("rope_freqs.weight", [8], Array(repeating: 0, count: 8))) }
        }
    }

    @Test("A llama's sliding window limits what a token sees")
    func window() throws {
        let (engine, equations) = try both {
            $0.set("llama.attention.sliding_window", .uint32(5))
        } _: {
            $0.window = 5
        }
        #expect(shareOfRange(equations, engine) < Self.tolerance)
        #expect(shareOfRange(try both { _ in }.engine, engine) > 20 * Self.tolerance)
    }

    private func gemma(_ pairs: [(String, GGUFBuilder.Value)]) throws -> DecoderConfig {
        try Models.tiny { builder in
            builder.pairs = builder.pairs.map { ($0.0.replacing("llama.", with: "gemma3."), $0.1) }
            builder.set("general.architecture", .string("gemma3"))
            builder.set("gemma3.attention.sliding_window", .uint32(8))
            for (key, value) in pairs { builder.set("gemma3.\(key)", value) }
            for layer in 0..<2 {
                for (name, count) in [
                    ("attn_q_norm", 16), ("attn_k_norm", 16), ("post_attention_norm", 64), ("post_ffw_norm", 64),
                ] {
                    builder.tensors.append(
                        .f32("blk.\(layer).\(name).weight", [UInt64(count)], Array(repeating: 1, count: count)))
                }
            }
        }.config
    }

    @Test("Gemma's local layers are five of six, or what the metadata says; its RoPE scaling is for global ones")
    func gemmaLayers() throws {
        let key = "attention.sliding_window_pattern"
        #expect(try gemma([]).windows == [8, 8])
        #expect(try gemma([(key, .uint32(2))]).windows == [8, 0])
        #expect(try gemma([(key, .int32s([0, 1]))]).windows == [0, 8])
        #expect(throws: FormatError.self) { try gemma([(key, .int32s([0, 1, 1]))]) }
        #expect(try gemma([("rope.scaling.factor", .float32(8))]).rotaries.map(\.factor) == [8, 1])
    }

    private func refusal(_ change: (inout GGUFBuilder) -> Void) throws -> String {
        let folder = try TemporaryFolder()
        let file = try GGUFFile(path: try folder.write("in.gguf", TinyLlama.gguf(change: change)))
        return #expect(throws: FormatError.self) { try ModelFamilies.check(file) }?.description ?? ""
    }

    @Test(
        "A tensor that would be left out is refused by name",
        arguments: ["blk.0.ffn_up.bias", "blk.1.attn_q_norm.weight", "blk.2.attn_norm.weight", "output.bias"])
    func unusedTensor(name: String) throws {
        let text = try refusal { $0.tensors.append(.f32(name, [64], Array(repeating: 1, count: 64))) }
        #expect(text.contains("\(name) is not used by llama"), "\(text)")
    }

    @Test("Biases that another family does not have are refused")
    func qwen2Bias() throws {
        let text = try refusal { builder in
            builder.pairs = builder.pairs.map { ($0.0.replacing("llama.", with: "qwen2."), $0.1) }
            builder.set("general.architecture", .string("qwen2"))
            for layer in 0..<2 {
                for (name, count) in [("attn_q", 64), ("attn_k", 32), ("attn_v", 32), ("attn_output", 64)] {
                    builder.tensors.append(
                        .f32("blk.\(layer).\(name).bias", [UInt64(count)], Array(repeating: 0, count: count)))
                }
            }
        }
        #expect(text.contains("blk.0.attn_output.bias is not used by qwen2"), "\(text)")
    }

    @Test(
        "A setting that Ebb does not know, or knows and does not compute, is refused by name",
        arguments: [
            ("llama.rope.scaling.type", .string("dynamic")), ("llama.rope.scaling.yarn_ext_factor", .float32(0.5)),
            ("llama.expert_count", .uint32(8)), ("llama.attention.causal", .bool(false)),
            ("llama.rope.scaling.attn_factor", .float32(-1)), ("llama.logit_scale", .float32(0.5)),
            ("llama.something.new", .uint32(1)), ("tokenizer.ggml.precompiled_charsmap", .int32s([1])),
            ("tokenizer.ggml.add_sep_token", .bool(true)), ("adapter.type", .string("lora")),
            ("general.type", .string("adapter")), ("general.quantization_version", .uint32(3)),
            ("llama.rope.scaling.factor", .float32(-2)), ("llama.rope.scaling.factor", .float32(.nan)),
            ("tokenizer.ggml.bos_token_id", .uint32(300)), ("tokenizer.ggml.eos_token_id", .int32(-1)),
            ("tokenizer.ggml.eot_token_id", .uint32(.max)), ("tokenizer.ggml.unknown_token_id", .string("x")),
        ] as [(String, GGUFBuilder.Value)])
    func unknownKey(key: String, value: GGUFBuilder.Value) throws {
        #expect(try refusal { $0.set(key, value) }.contains(key))
    }

    @Test("Settings that change nothing, and what others say in namespaces of their own, are let in")
    func harmless() throws {
        let folder = try TemporaryFolder()
        let bytes = TinyLlama.gguf { builder in
            for (key, value) in [
                ("llama.expert_count", .uint32(0)), ("llama.attention.causal", .bool(true)),
                ("llama.vocab_size", .uint32(300)), ("llama.rope.scaling.type", .string("none")),
                ("llama.logit_scale", .float32(1)), ("llama.attention.sliding_window", .uint32(4096)),
                ("general.tags", .strings(["a"])), ("quantize.imatrix.file", .string("x")),
                ("someone.note", .string("x")), ("tokenizer.chat_template.tool_use", .string("x")),
                ("tokenizer.ggml.padding_token_id", .uint32(99_999)), ("gemma3.rope.scaling.factor", .float32(2)),
            ] as [(String, GGUFBuilder.Value)] { builder.set(key, value) }
        }
        try ModelFamilies.check(try GGUFFile(path: try folder.write("in.gguf", bytes)))
    }
}
