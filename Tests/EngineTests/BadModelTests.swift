import Engine
import ModelFormat
import Testing
import TestKit

@Suite("Bad models")
struct BadModelTests {
    private func check(_ change: (inout GGUFBuilder) -> Void) throws {
        let folder = try TemporaryFolder()
        let file = try GGUFFile(path: try folder.write("in.gguf", TinyLlama.gguf(change: change)))
        try ModelFamilies.check(file)
    }

    private func set(_ key: String, _ value: GGUFBuilder.Value) -> (inout GGUFBuilder) -> Void {
        { builder in
            builder.pairs.removeAll { $0.0 == key }
            builder.pairs.append((key, value))
        }
    }

    @Test("A right model passes")
    func right() throws { try check { _ in } }

    @Test("An unknown architecture is named, with those that are known")
    func unknownArchitecture() throws {
        let error = #expect(throws: FormatError.self) { try check(set("general.architecture", .string("parrot"))) }
        #expect(error?.description.contains("parrot") == true && error?.description.contains("llama") == true)
    }

    @Test(
        "Metadata that contradicts the tensors is refused",
        arguments: [
            ("llama.attention.head_count", 0), ("llama.attention.head_count", 3), ("llama.attention.head_count_kv", 3),
            ("llama.embedding_length", 128), ("llama.block_count", 3), ("llama.block_count", 0),
            ("llama.feed_forward_length", 64),
            ("llama.context_length", 0), ("llama.attention.key_length", 24), ("llama.block_count", 4_000_000_000),
        ])
    func contradictions(key: String, value: Int) {
        #expect(throws: FormatError.self) { try check(set(key, .uint32(UInt32(value)))) }
    }

    @Test("A sliding window of 0 or larger than the context is refused", arguments: [0, 257, 4_000_000_000])
    func window(size: Int) throws {
        let error = #expect(throws: FormatError.self) {
            try check { builder in
                builder.pairs = builder.pairs.map { ($0.0.replacing("llama.", with: "gemma3."), $0.1) }
                builder.pairs[0] = ("general.architecture", .string("gemma3"))
                builder.pairs.append(("gemma3.attention.sliding_window", .uint32(UInt32(size))))
            }
        }
        #expect(error?.description.contains("sliding_window") == true)
    }

    @Test("A vocabulary that does not fit the embedding is refused")
    func vocabulary() {
        #expect(throws: FormatError.self) { try check(set("tokenizer.ggml.tokens", .strings(["a", "b"]))) }
    }

    @Test("A missing tensor is named")
    func missingTensor() throws {
        let error = #expect(throws: FormatError.self) {
            try check { $0.tensors.removeAll { $0.name == "blk.1.attn_v.weight" } }
        }
        #expect(error?.description.contains("blk.1.attn_v.weight") == true)
    }

    @Test("What would change the mathematics unseen is refused")
    func scaling() {
        #expect(throws: FormatError.self) { try check(set("llama.rope.scaling.type", .string("dynamic"))) }
        let error = #expect(throws: FormatError.self) { try check(set("llama.rope.scaling.type", .string("longrope"))) }
        #expect(error?.description.contains("rope_factors_short.weight is missing") == true)
        for dimensions: UInt32 in [0, 7, 18] {
            #expect(throws: FormatError.self) { try check(set("llama.rope.dimension_count", .uint32(dimensions))) }
        }
    }

    @Test("Factors of RoPE that are 0, negative or no numbers are refused before the import")
    func ropeFactors() throws {
        func check(_ factor: Float) throws {
            let folder = try TemporaryFolder()
            let bytes = TinyLlama.gguf {
                $0.tensors.append(.f32("rope_freqs.weight", [8], [1, 1, 1, factor, 1, 1, 1, 1]))
            }
            let gguf = try GGUFFile(path: try folder.write("tiny.gguf", bytes))
            try ModelFamilies.check(gguf)
            try ModelImport(GGUFSource(gguf)).write(to: folder.file("tiny.ebb"), checking: ModelFamilies.check)
        }
        try check(2)
        for factor in [0, -1, .nan, .infinity] as [Float] {
            let error = #expect(throws: FormatError.self) { try check(factor) }
            #expect(error?.description.contains("rope_freqs.weight") == true)
        }
    }

    @Test("EBB_ISA with an unknown name says which there are")
    func unknownISA() {
        let error = #expect(throws: EngineError.self) { try Kernels.named("mmx") }
        #expect(error?.description.contains("avx512vnni") == true)
    }
}
