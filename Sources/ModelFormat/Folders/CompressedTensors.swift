/// What a checkpoint of compressed-tensors says (https://github.com/vllm-project/compressed-tensors, as llm-compressor writes
/// it): FP8, or packed integers.
extension FolderQuantization {
    private static let formats = ["float-quantized", "naive-quantized", "pack-quantized"]

    static func compressed(_ said: FolderSettings) throws -> FolderQuantization {
        said.allow(["quantization_status", "global_compression_ratio", "kv_cache_scheme", "version"])
        said.demand(["transform_config": [.empty], "moe_sparsity_config": []])
        let format = try said.text("format") ?? formats[0]
        guard formats.contains(format) else {
            throw said.refusal(
                "format",
                "is \"\(format.prefix(80))\", which is not supported (\(formats.joined(separator: ", ")) are)")
        }
        if let sparsity = try said.settings("sparsity_config") {
            sparsity.allow([
                "global_sparsity", "registry_requires_subclass", "sparsity_structure", "targets", "ignore",
            ])
            sparsity.demand(["format": [.text("dense")]])
        }
        guard let groups = try said.settings("config_groups") else { throw said.refusal("config_groups", "is missing") }
        let weights = try groups.keys.map { name in
            guard let group = try groups.settings(name), let weights = try group.settings("weights") else {
                throw groups.refusal(name, "says nothing of weights")
            }
            // Inputs and outputs of products are never made integers or FP8 as it says there.
            group.allow(["targets", "input_activations", "output_activations"])
            group.demand([
                "format": format == "pack-quantized"
                    ? [.text(format)] : [.text("float-quantized"), .text("naive-quantized")]
            ])
            return weights
        }
        return try format == "pack-quantized" ? packed(weights, groups) : float8(weights)
    }

    private static func float8(_ groups: [FolderSettings]) throws -> FolderQuantization {
        var found = FolderQuantization.float8(rows: 128, columns: 128)
        for weights in groups {
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

    /// Which of several groups a module is of stands in its name and class alone, so all have to be packed alike.
    private static func packed(_ weights: [FolderSettings], _ groups: FolderSettings) throws -> FolderQuantization {
        let formats = try weights.map { try PackedFormat(compressed: $0) }
        guard let format = formats.first else { throw groups.refusal("weights", "are missing: there is no group") }
        if let other = zip(groups.keys, formats).first(where: { $1 != format }) {
            throw groups.refusal(
                other.0, "is packed in another way than the rest: one way for all weights of a checkpoint is supported")
        }
        return .packed(format)
    }
}
