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

    static func float8(_ said: FolderSettings, _ key: String) throws -> FolderQuantization {
        guard let size = try said.numbers(key) else { return .float8(rows: 128, columns: 128) }
        let sizes = size.compactMap { Int(exactly: $0) }
        guard size.count == 2, sizes.count == 2, sizes.allSatisfy({ (1...65_536).contains($0) }) else {
            throw said.refusal(key, "is no size of blocks")
        }
        return .float8(rows: sizes[0], columns: sizes[1])
    }

    // MARK: Tensors

    /// The weight of a module; nil where it is not quantized.
    func matrix(_ module: String, _ tensors: CheckpointTensors) throws -> (any FolderMatrix)? {
        switch self {
        case .none, .microFloat4: return nil
        case .packed(let format):
            guard tensors.has(module + format.names.words) else { return nil }
            let matrix = try PackedMatrix(module, format, tensors)
            if matrix.isUneven {
                tensors.notice(
                    "groups of the checkpoint (g_idx) have other numbers of input channels than group_size, which no "
                        + "container holds: such weights become f16 (ebbctl quantize makes them small again)")
            }
            return matrix
        case .float8(let rows, let columns):
            guard let name = tensors.spelled(module + ".weight"), try tensors.weights.stored(name).tensor.type == .f8
            else { return nil }
            return try Float8Matrix(module, blockRows: rows, blockColumns: columns, tensors)
        }
    }

    /// Scales of inputs and of cached keys and values, which are neither FP8 nor integers of the checkpoint's here.
    func isHarmless(_ name: String) -> Bool {
        switch self {
        case .float8: break
        case .packed(let format): guard case .compressed = format.layout else { return false }
        case .none, .microFloat4: return false
        }
        return [".input_scale", ".activation_scale", "_activation_scale", ".k_scale", ".v_scale", ".input_scale_ub"]
            .contains { name.hasSuffix($0) }
    }
}
