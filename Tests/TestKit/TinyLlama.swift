/// A llama of a few thousand random weights: wrong as a language model, right as a file.
public enum TinyLlama {
    public static let vocabulary = 300

    /// - Parameters:
    ///   - hidden: a multiple of 32.
    ///   - change: edits the file's parts before it is built.
    public static func gguf(
        layers: Int = 2, vocabulary: Int = vocabulary, hidden: Int = 64,
        change: (inout GGUFBuilder) -> Void = { _ in }
    ) -> [UInt8] {
        let (feedForward, heads, kvHeads) = (hidden * 3 / 2, hidden / 16, max(hidden / 32, 1))
        let keys = hidden / heads * kvHeads
        var random = TestRandom(seed: 7)
        var tensors: [GGUFBuilder.Tensor] = []
        func matrix(_ name: String, n: Int, k: Int) {
            tensors.append(.f32(name, [UInt64(k), UInt64(n)], random.floats(n * k).map { $0 * 0.1 }))
        }
        func ones(_ name: String) { tensors.append(.f32(name, [UInt64(hidden)], Array(repeating: 1, count: hidden))) }
        matrix("token_embd.weight", n: vocabulary, k: hidden)
        ones("output_norm.weight")
        for l in 0..<layers {
            ones("blk.\(l).attn_norm.weight")
            ones("blk.\(l).ffn_norm.weight")
            matrix("blk.\(l).attn_q.weight", n: hidden, k: hidden)
            matrix("blk.\(l).attn_k.weight", n: keys, k: hidden)
            matrix("blk.\(l).attn_v.weight", n: keys, k: hidden)
            matrix("blk.\(l).attn_output.weight", n: hidden, k: hidden)
            matrix("blk.\(l).ffn_gate.weight", n: feedForward, k: hidden)
            matrix("blk.\(l).ffn_up.weight", n: feedForward, k: hidden)
            matrix("blk.\(l).ffn_down.weight", n: hidden, k: feedForward)
        }
        var builder = GGUFBuilder(
            [
                ("general.architecture", .string("llama")), ("llama.block_count", .uint32(UInt32(layers))),
                ("llama.context_length", .uint32(256)), ("llama.embedding_length", .uint32(UInt32(hidden))),
                ("llama.feed_forward_length", .uint32(UInt32(feedForward))),
                ("llama.attention.head_count", .uint32(UInt32(heads))),
                ("llama.attention.head_count_kv", .uint32(UInt32(kvHeads))),
                ("llama.attention.layer_norm_rms_epsilon", .float32(1e-5)), ("tokenizer.ggml.model", .string("gpt2")),
                ("tokenizer.ggml.pre", .string("smollm")), ("tokenizer.ggml.tokens", .strings(tokens)),
                ("tokenizer.ggml.merges", .strings(["a b", "b c"])),
            ], tensors)
        change(&builder)
        return builder.build()
    }

    /// The letters of the byte-level alphabet that stand for themselves, and fillers.
    private static var tokens: [String] {
        let letters = (33...126).map { String(UnicodeScalar(UInt8($0))) } + ["ab", "bc"]
        return letters + (letters.count..<vocabulary).map { "<filler\($0)>" }
    }
}
