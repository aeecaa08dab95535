/// How integers lie in a checkpoint of GPTQ, AWQ or compressed-tensors.
struct PackedFormat: Sendable, Equatable {
    enum Layout: Sendable, Equatable {
        /// Words go along the input channels, and zero points are stored less `zeroBias`
        /// (https://github.com/ModelCloud/GPTQModel, `nn_modules/qlinear`).
        case gptq(zeroBias: Int)
        /// Words go along the output channels, eight in the order 0, 2, 4, 6, 1, 3, 5, 7
        /// (https://github.com/casper-hansen/AutoAWQ, `modules/linear/gemm.py`) or four in the order 0, 2, 1, 3
        /// (https://github.com/vllm-project/vllm, `quantization/utils/marlin_utils.py`).
        case awq
        /// Words go along the input channels of a channel after the other, of its zero points along the output channels;
        /// symmetric ones have none (https://github.com/vllm-project/compressed-tensors, `compressors/pack_quantized`).
        case compressed(isSymmetric: Bool)
    }

    let layout: Layout
    let bits: Int
    /// Input channels that share a scale; nil where all do.
    let group: Int?

    private static let groups = [16, 32, 64, 128, 256]

    /// - Parameters:
    ///   - key: what says the width, one of `possible`.
    ///   - group: input channels that share a scale; -1 for all.
    private init(
        _ layout: Layout, _ said: FolderSettings, _ key: String = "bits", bits possible: [Int], group: Double
    ) throws {
        self.layout = layout
        let bits = try said.required(key)
        guard possible.contains(bits) else {
            let known = possible.map(String.init).joined(separator: ", ")
            throw said.refusal(key, "is \(bits), which is not supported (\(known))")
        }
        self.bits = bits
        guard group == -1 || Self.groups.contains(where: { Double($0) == group }) else {
            let known = Self.groups.map(String.init).joined(separator: ", ")
            throw said.refusal("group_size", "is \(group), which is not supported (\(known) and -1)")
        }
        self.group = group == -1 ? nil : Int(group)
    }

    init(gptq said: FolderSettings) throws {
        let format = try said.text("checkpoint_format") ?? "gptq"
        guard ["gptq", "gptq_v2"].contains(format) else {
            throw said.refusal(
                "checkpoint_format", "is \"\(format.prefix(80))\", which is not supported (gptq, gptq_v2)")
        }
        // The tensors show what these say; the rest is how the integers were found.
        said.allow([
            "sym", "desc_act", "static_groups", "damp_percent", "damp_auto_increment", "true_sequential", "meta",
            "model_name_or_path", "model_file_base_name", "quantizer", "dataset", "tokenizer", "cache_block_outputs",
            "exllama_config", "use_cuda_fp16", "use_exllama", "disable_exllama", "max_input_length", "model_seqlen",
            "block_name_to_quantize", "module_name_preceding_first_block", "batch_size", "pad_token_id", "backend",
            "mse", "hyb_act", "modules_in_block_to_quantize",
        ])
        said.demand([
            "is_marlin_format": [.bool(false)], "lm_head": [.bool(false), .bool(true)], "pack_dtype": [.text("int32")],
            "dynamic": [.empty], "format": [.text("gptq"), .text("gptq_v2")], "rotation": [], "adapter": [],
        ])
        let group = try said.number("group_size") ?? -1
        try self.init(.gptq(zeroBias: format == "gptq" ? 1 : 0), said, bits: [2, 4, 8], group: group)
    }

    init(awq said: FolderSettings) throws {
        said.demand([
            "version": [.text("gemm"), .text("GEMM")], "zero_point": [.bool(true)], "do_fuse": [.bool(false)],
        ])
        said.allow(["backend", "exllama_config", "fuse_max_seq_len", "modules_to_fuse"])
        try self.init(.awq, said, bits: [4, 8], group: try said.number("group_size") ?? -1)
    }

    /// - Parameter said: what a group of compressed-tensors' configuration says of weights.
    init(compressed said: FolderSettings) throws {
        // How the integers were found; g_idx shows what the order of activations made of the columns.
        said.allow(["observer", "observer_kwargs", "scale_dtype", "zp_dtype", "actorder"])
        said.demand(["dynamic": [.bool(false)], "block_structure": []])
        let type = try said.text("type") ?? "int"
        guard type == "int" else {
            throw said.refusal("type", "is \"\(type.prefix(80))\", which is not supported (int)")
        }
        let size = try said.number("group_size")
        let strategy = try said.text("strategy") ?? (size == nil ? "tensor" : size == -1 ? "channel" : "group")
        guard ["group", "channel"].contains(strategy) else {
            throw said.refusal("strategy", "is \"\(strategy.prefix(80))\", which is not supported (group, channel)")
        }
        if strategy == "group", size ?? -1 == -1 { throw said.refusal("group_size", "is missing or impossible") }
        let isSymmetric = try said.flag("symmetric") ?? true
        try self.init(
            .compressed(isSymmetric: isSymmetric), said, "num_bits", bits: [2, 4, 8],
            group: strategy == "channel" ? -1 : size ?? -1)
    }

    // MARK: Words

    /// Integers in a word.
    var inWord: Int { 32 / bits }

    /// What zero points are stored less.
    var zeroBias: Int { if case .gptq(let bias) = layout { bias } else { 0 } }

    /// The bits of an integer.
    var mask: UInt32 { 1 << UInt32(bits) - 1 }

    /// Where in a word integer `place` begins: a bit.
    func shift(of place: Int) -> UInt32 {
        let place = layout == .awq ? (bits == 8 ? Self.awqQuarters : Self.awqEighths)[place] : place
        return UInt32(place * bits)
    }

    /// Integer `place` of a word.
    func integer(_ word: UInt32, at place: Int) -> UInt8 { UInt8(truncatingIfNeeded: word >> shift(of: place) & mask) }

    /// Where in a word of AWQ the output channels 0...7, or 0...3, lie.
    private static let awqEighths = [0, 4, 1, 5, 2, 6, 3, 7]
    private static let awqQuarters = [0, 2, 1, 3]

    // MARK: Names

    /// What a module's tensors are called, after its own name.
    var names: (words: String, zeros: String, scales: String, groups: String) {
        switch layout {
        case .gptq, .awq: (".qweight", ".qzeros", ".scales", ".g_idx")
        case .compressed: (".weight_packed", ".weight_zero_point", ".weight_scale", ".weight_g_idx")
        }
    }
}
