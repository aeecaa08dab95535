/// A gemma3 of a few thousand random weights, with windows short enough for their rings to come round.
public enum TinyGemma {
    /// Tokens that local layers see: a ring of three blocks.
    public static let window = 40

    public static func gguf() -> [UInt8] {
        let (layers, hidden, headDim) = (6, 64, 16)
        return TinyLlama.gguf(layers: layers) { builder in
            builder.pairs = builder.pairs.map { key, value in
                key == "general.architecture"
                    ? (key, .string("gemma3"))
                    : (key.hasPrefix("llama.") ? "gemma3." + key.dropFirst("llama.".count) : key, value)
            }
            builder.pairs.append(("gemma3.attention.sliding_window", .uint32(UInt32(window))))
            func ones(_ name: String, _ count: Int) {
                builder.tensors.append(.f32(name, [UInt64(count)], Array(repeating: 1, count: count)))
            }
            for layer in 0..<layers {
                ones("blk.\(layer).attn_q_norm.weight", headDim)
                ones("blk.\(layer).attn_k_norm.weight", headDim)
                ones("blk.\(layer).post_attention_norm.weight", hidden)
                ones("blk.\(layer).post_ffw_norm.weight", hidden)
            }
        }
    }
}
