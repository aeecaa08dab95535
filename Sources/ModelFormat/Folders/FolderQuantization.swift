/// How a checkpoint's weights are quantized, as `quantization_config` says.
enum FolderQuantization: Sendable {
    case none
    /// Bytes of floats under scales, for the matrix, each channel or each block of these rows and columns.
    case float8(rows: Int, columns: Int)
    /// Integers in words of 32 bits.
    case packed(PackedFormat)
    /// Floats of 4 bits, 32 under an exponent; where those are, the family knows.
    case microFloat4

    init(_ settings: FolderSettings) throws {
        guard let said = try settings.settings("quantization_config") else {
            self = .none
            return
        }
        // Modules that are not quantized are seen from their tensors.
        said.allow(["modules_to_not_convert", "ignored_layers", "ignore"])
        switch try said.text("quant_method") {
        case "fp8": self = try Self.plainFloat8(said)
        case "fbgemm_fp8":
            said.allow(["activation_scale_ub"])
            self = .float8(rows: 128, columns: 128)
        case "compressed-tensors": self = try Self.compressed(said)
        case "gptq": self = .packed(try PackedFormat(gptq: said))
        case "awq": self = .packed(try PackedFormat(awq: said))
        case "mxfp4": self = .microFloat4
        case let method:
            throw said.refusal(
                "quant_method",
                "is \"\((method ?? "none").prefix(80))\", which is not supported (fp8, fbgemm_fp8, compressed-tensors, gptq, "
                    + "awq and mxfp4 are)")
        }
    }

    // MARK: Configurations of FP8

    private static func plainFloat8(_ said: FolderSettings) throws -> FolderQuantization {
        // Inputs are never made FP8 here.
        said.allow(["activation_scheme", "scale_fmt", "dequantize"])
        said.demand(["fmt": [.text("e4m3")]])
        return try float8(said, "weight_block_size")
    }

    private static func float8(_ said: FolderSettings, _ key: String) throws -> FolderQuantization {
        guard let size = try said.numbers(key) else { return .float8(rows: 128, columns: 128) }
        let sizes = size.compactMap { Int(exactly: $0) }
        guard size.count == 2, sizes.count == 2, sizes.allSatisfy({ (1...65_536).contains($0) }) else {
            throw said.refusal(key, "is no size of blocks")
        }
        return .float8(rows: sizes[0], columns: sizes[1])
    }

    /// https://github.com/vllm-project/compressed-tensors
    private static func compressed(_ said: FolderSettings) throws -> FolderQuantization {
        said.allow(["quantization_status", "global_compression_ratio", "kv_cache_scheme", "version"])
        said.demand([
            "format": [.text("float-quantized"), .text("naive-quantized")], "transform_config": [.empty],
        ])
        if let sparsity = try said.settings("sparsity_config") {
            sparsity.allow([
                "global_sparsity", "registry_requires_subclass", "sparsity_structure", "targets", "ignore",
            ])
            sparsity.demand(["format": [.text("dense")]])
        }
        var found = FolderQuantization.float8(rows: 128, columns: 128)
        guard let groups = try said.settings("config_groups") else { throw said.refusal("config_groups", "is missing") }
        for name in groups.keys {
            guard let group = try groups.settings(name), let weights = try group.settings("weights") else {
                throw groups.refusal(name, "says nothing of weights")
            }
            group.allow(["targets", "input_activations", "output_activations"])
            group.demand(["format": [.text("float-quantized"), .text("naive-quantized")]])
            weights.allow(["observer", "observer_kwargs", "scale_dtype", "zp_dtype"])
            weights.demand([
                "num_bits": [.number(8)], "type": [.text("float")], "symmetric": [.bool(true)],
                "dynamic": [.bool(false)],
                "strategy": [.text("tensor"), .text("channel"), .text("block")], "group_size": [], "actorder": [],
            ])
            if try weights.text("type") != "float" { throw weights.refusal("type", "is not \"float\"") }
            if weights["block_structure"] != nil { found = try float8(weights, "block_structure") }
        }
        return found
    }

    // MARK: Tensors

    /// The weight of a module; nil where it is not quantized.
    func matrix(_ module: String, _ tensors: CheckpointTensors) throws -> (any FolderMatrix)? {
        switch self {
        case .none, .microFloat4: return nil
        case .packed(let format):
            guard tensors.has(module + ".qweight") else { return nil }
            let matrix = try PackedMatrix(module, format, tensors)
            if matrix.isUneven {
                tensors.notice(
                    "groups of the GPTQ checkpoint (g_idx) have other numbers of input channels than group_size, which no "
                        + "container holds: such weights become f16 (ebbctl quantize makes them small again)")
            }
            return matrix
        case .float8(let rows, let columns):
            guard let name = tensors.spelled(module + ".weight"), try tensors.weights.stored(name).tensor.type == .f8
            else { return nil }
            return try Float8Matrix(module, blockRows: rows, blockColumns: columns, tensors)
        }
    }

    /// Scales of inputs and of cached keys and values, which are never made FP8 here.
    func isHarmless(_ name: String) -> Bool {
        guard case .float8 = self else { return false }
        return [".input_scale", ".activation_scale", "_activation_scale", ".k_scale", ".v_scale", ".input_scale_ub"]
            .contains { name.hasSuffix($0) }
    }
}
