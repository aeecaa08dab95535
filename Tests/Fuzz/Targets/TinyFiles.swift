import Foundation
import Glibc
import ModelFormat
import Synchronization
import TestKit

/// Models of a few KB, in every format: what fuzzing begins with.
enum TinyFiles {
    private static let (hidden, heads, headDim, vocabulary) = (32, 2, 16, 40)

    /// A decoder for each family and each kind of tokenizer, and a file with a matrix of each quantized type.
    static func ggufs() -> [[UInt8]] {
        [
            decoder("llama", pieces: true), decoder("qwen2", pieces: false), decoder("gemma3", pieces: true), blocks(),
        ]
    }

    /// The same as containers, and an encoder.
    static func containers() throws -> [[UInt8]] {
        var files = try ggufs().map { bytes in
            try imported(GGUFSource(try GGUFFile(path: try Scratch.write("seed.gguf", bytes))))
        }
        try lay(in: "seed")
        files.append(try imported(try ModelSources.open("\(Scratch.folder)/seed")))
        return files
    }

    private static func imported(_ source: any ModelSource) throws -> [UInt8] {
        let path = "\(Scratch.folder)/seed.ebb"
        try ModelImport(source).write(to: path)
        defer { unlink(path) }
        return try Scratch.read(path)
    }

    static func decoder(_ family: String, pieces: Bool) -> [UInt8] {
        var random = TestRandom(seed: 3)
        var tensors: [GGUFBuilder.Tensor] = []
        func ones(_ name: String, _ n: Int = hidden) {
            tensors.append(.f32(name, [UInt64(n)], Array(repeating: 1, count: n)))
        }
        /// Small scales come first in ggml's blocks of 32: f16 0.01, and 0 for the minimum.
        func matrix(_ name: String, n: Int, k: Int, type: UInt32) {
            let bytes = [0: 4 * k, 1: 2 * k, 30: 2 * k, 2: 18 * k / 32, 3: 20 * k / 32, 6: 22 * k / 32, 8: 34 * k / 32]
            var data: [UInt8] = []
            for _ in 0..<n {
                if type < 2 || type == 30 {
                    for _ in 0..<bytes[Int(type), default: 0] / (type == 0 ? 4 : 2) {
                        let value = Float.random(in: -0.2...0.2, using: &random)
                        let bits: UInt32 = type == 1 ? 0x2000 : type == 30 ? value.bitPattern >> 16 : value.bitPattern
                        data += (0..<(type == 0 ? 4 : 2)).map { UInt8(truncatingIfNeeded: bits >> (8 * $0)) }
                    }
                } else {
                    data += [0x1f, 0x21] + (type == 3 ? [0, 0] : [])
                    data += random.bytes(bytes[Int(type), default: 0] - (type == 3 ? 4 : 2))
                }
            }
            tensors.append(.init(name, type: type, dimensions: [UInt64(k), UInt64(n)], data: data))
        }
        matrix("token_embd.weight", n: vocabulary, k: hidden, type: 8)
        ones("output_norm.weight")
        ones("blk.0.attn_norm.weight")
        ones("blk.0.ffn_norm.weight")
        matrix("blk.0.attn_q.weight", n: hidden, k: hidden, type: 2)
        matrix("blk.0.attn_k.weight", n: headDim, k: hidden, type: 3)
        matrix("blk.0.attn_v.weight", n: headDim, k: hidden, type: 6)
        matrix("blk.0.attn_output.weight", n: hidden, k: hidden, type: 30)
        matrix("blk.0.ffn_gate.weight", n: hidden, k: hidden, type: 2)
        matrix("blk.0.ffn_up.weight", n: hidden, k: hidden, type: 8)
        matrix("blk.0.ffn_down.weight", n: hidden, k: hidden, type: 1)
        if family == "qwen2" {
            for (name, n) in [("q", hidden), ("k", headDim), ("v", headDim)] { ones("blk.0.attn_\(name).bias", n) }
        }
        if family == "gemma3" {
            for name in ["attn_q_norm", "attn_k_norm"] { ones("blk.0.\(name).weight", headDim) }
            for name in ["post_attention_norm", "post_ffw_norm"] { ones("blk.0.\(name).weight") }
        }
        return GGUFBuilder(numbers(family) + (pieces ? pieceTokens : byteTokens), tensors).build()
    }

    private static func numbers(_ family: String) -> [(String, GGUFBuilder.Value)] {
        [
            ("general.architecture", .string(family)), ("\(family).block_count", .uint32(1)),
            ("\(family).context_length", .uint32(64)), ("\(family).embedding_length", .uint32(UInt32(hidden))),
            ("\(family).feed_forward_length", .uint32(UInt32(hidden))),
            ("\(family).attention.head_count", .uint32(UInt32(heads))),
            ("\(family).attention.head_count_kv", .uint32(1)),
            ("\(family).attention.layer_norm_rms_epsilon", .float32(1e-5)),
        ]
            + (family == "gemma3" ? [("gemma3.attention.sliding_window", .uint32(32))] : [])
            + [
                ("tokenizer.ggml.bos_token_id", .uint32(1)), ("tokenizer.ggml.eos_token_id", .uint32(2)),
                (
                    "tokenizer.chat_template",
                    .string("{% for m in messages %}<s>{{ m.role }}\n{{ m['content'] }}{% endfor %}")
                ),
            ]
    }

    /// SentencePiece, with scores and byte tokens.
    private static var pieceTokens: [(String, GGUFBuilder.Value)] {
        let tokens =
            ["<unk>", "<s>", "</s>", "<0x0A>", "<0xC3>", "<0xA9>"] + ["\u{2581}", "a", "b", "ab", "ba", "\u{2581}a"]
            + (12..<vocabulary).map { "t\($0)" }
        let kinds = [2, 3, 3, 6, 6, 6] + Array(repeating: 1, count: vocabulary - 6)
        return [
            ("tokenizer.ggml.model", .string("llama")), ("tokenizer.ggml.tokens", .strings(tokens)),
            ("tokenizer.ggml.scores", .float32s((0..<vocabulary).map { -Float($0) })),
            ("tokenizer.ggml.token_type", .int32s(kinds.map { Int32($0) })),
        ]
    }

    /// Byte pairs, with merges.
    private static var byteTokens: [(String, GGUFBuilder.Value)] {
        let tokens =
            ["<unk>", "<s>", "</s>", "Ġ", "Ċ", "Ã", "©", "a", "b", "ab", "ba", "Ġa"]
            + (12..<vocabulary).map { "t\($0)" }
        let kinds = [2, 3, 3] + Array(repeating: 1, count: vocabulary - 3)
        return [
            ("tokenizer.ggml.model", .string("gpt2")), ("tokenizer.ggml.pre", .string("qwen2")),
            ("tokenizer.ggml.tokens", .strings(tokens)),
            ("tokenizer.ggml.token_type", .int32s(kinds.map { Int32($0) })),
            ("tokenizer.ggml.merges", .strings(["a b", "b a", "Ġ a"])),
        ]
    }

    /// A matrix of each K-quant, 256 wide.
    private static func blocks() -> [UInt8] {
        var random = TestRandom(seed: 4)
        let types: [(UInt32, Int)] = [(10, 84), (11, 110), (12, 144), (13, 176), (14, 210)]
        let tensors = types.map { type, bytes in
            // Scales of all zeros keep the values finite.
            GGUFBuilder.Tensor(
                "m\(type).weight", type: type, dimensions: [256, 2], data: random.bytes(bytes * 2).map { $0 & 0x3b })
        }
        return GGUFBuilder([("general.architecture", .string("llama"))], tensors).build()
    }

    /// An encoder of one layer, 16 wide.
    static var bert: TinyBert {
        var model = TinyBert()
        model.weights.removeAll { $0.name.contains("layer.1.") }
        for index in model.weights.indices {
            let shape = model.weights[index].shape.map { [32, 40, 64].contains($0) ? 16 : $0 }
            model.weights[index].shape = shape
            model.weights[index].values = Array(model.weights[index].values.prefix(shape.reduce(1, *)))
        }
        for key in ["hidden_size", "intermediate_size", "max_position_embeddings"] { model.config[key] = 16 }
        (model.config["num_hidden_layers"], model.config["num_attention_heads"]) = (1, 1)
        return model
    }

    /// A right folder. - Parameter weights: instead of model.safetensors' own.
    static func lay(weights: [UInt8]? = nil, in folder: String) throws {
        if !laid.withLock({ $0.insert(folder).inserted }) {
            if let weights { _ = try Scratch.write("\(folder)/model.safetensors", weights) }
            return
        }
        let config = Array(try JSONSerialization.data(withJSONObject: bert.config))
        _ = try Scratch.write("\(folder)/config.json", config)
        _ = try Scratch.write("\(folder)/tokenizer.json", try tokenizer())
        _ = try Scratch.write("\(folder)/model.safetensors", try weights ?? bert.safetensors())
    }

    /// - Parameter options: with all that a normalizer may say.
    static func tokenizer(options: Bool = false) throws -> [UInt8] {
        let vocabulary = Dictionary(uniqueKeysWithValues: bert.tokens.enumerated().map { ($1, $0) })
        var normalizer: [String: Any] = ["type": "BertNormalizer", "lowercase": true]
        if options {
            normalizer["strip_accents"] = false
            normalizer["handle_chinese_chars"] = true
            normalizer["clean_text"] = true
        }
        let json: [String: Any] = [
            "model": [
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary,
            ] as [String: Any],
            "added_tokens": (0..<4).map { ["id": $0, "special": true, "content": bert.tokens[$0]] as [String: Any] },
            "normalizer": options ? ["type": "Sequence", "normalizers": [normalizer]] : normalizer,
            "pre_tokenizer": ["type": "BertPreTokenizer"],
        ]
        return Array(try JSONSerialization.data(withJSONObject: json, options: .sortedKeys))
    }

    private static let laid = Mutex<Set<String>>([])
}
