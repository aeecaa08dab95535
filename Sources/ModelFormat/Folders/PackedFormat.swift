/// How integers lie in a checkpoint of GPTQ or AWQ.
struct PackedFormat: Sendable {
    enum Layout: Sendable {
        /// Words go along the input channels, and zero points are stored less `zeroBias`
        /// (https://github.com/ModelCloud/GPTQModel, `nn_modules/qlinear`).
        case gptq(zeroBias: Int)
        /// Words go along the output channels, eight in the order 0, 2, 4, 6, 1, 3, 5, 7
        /// (https://github.com/casper-hansen/AutoAWQ, `modules/linear/gemm.py`).
        case awq
    }

    let layout: Layout
    let bits: Int
    /// Input channels that share a scale; nil where all do.
    let group: Int?

    private static let groups = [16, 32, 64, 128, 256]

    private init(_ layout: Layout, _ said: FolderSettings, bits possible: [Int]) throws {
        self.layout = layout
        let bits = try said.required("bits")
        guard possible.contains(bits) else {
            let known = possible.map(String.init).joined(separator: ", ")
            throw said.refusal("bits", "is \(bits), which is not supported (\(known))")
        }
        self.bits = bits
        let group = try said.number("group_size") ?? -1
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
        try self.init(.gptq(zeroBias: format == "gptq" ? 1 : 0), said, bits: [2, 4, 8])
    }

    init(awq said: FolderSettings) throws {
        said.demand([
            "version": [.text("gemm"), .text("GEMM")], "zero_point": [.bool(true)], "do_fuse": [.bool(false)],
        ])
        said.allow(["backend", "exllama_config", "fuse_max_seq_len", "modules_to_fuse"])
        try self.init(.awq, said, bits: [4])
    }

    /// Integers in a word.
    var inWord: Int { 32 / bits }

    /// Where in a word of AWQ the output channels 0...7 lie.
    static let awqPlaces = [0, 4, 1, 5, 2, 6, 3, 7]
}
