import Glibc

/// A LoRA adapter as Hugging Face's PEFT saves it (https://huggingface.co/docs/peft/developer_guides/checkpoint):
/// adapter_config.json, and adapter_model.safetensors with `base_model.model.MODULE.lora_A.weight` [rank, k] and `lora_B.weight`
/// [n, rank] for each module.
struct PEFTFolder {
    let parts: [AdapterPart]
    let byteCount: Int

    private static let prefix = "base_model.model."
    private static let (suffixA, suffixB) = (".lora_A.weight", ".lora_B.weight")

    /// - Parameter architecture: the model's.
    init(_ path: String, for model: some ModelDescription, _ architecture: String) throws {
        guard access(path + "/adapter_config.json", F_OK) == 0 || errno != ENOENT else {
            throw FormatError("\(path)/adapter_config.json is missing: the folder holds no adapter as PEFT writes it")
        }
        let file = try FolderFile(path, "adapter_config.json")
        let config = FolderSettings(file.path, try file.members())
        let scaling = try PEFTScaling(config)
        try config.finish()
        let weights = path + "/adapter_model.safetensors"
        if access(weights, F_OK) != 0, access(path + "/adapter_model.bin", F_OK) == 0 {
            throw FormatError("\(weights) is missing: adapter_model.bin is not read; save the adapter as safetensors")
        }
        let tensors = try SafetensorsFile(path: weights)
        let names = try AdapterNames(model, architecture)
        byteCount = tensors.file.bytes.count
        parts = try Self.modules(tensors).map { module in
            let (a, b) = (try Self.rows(module + Self.suffixA, tensors), try Self.rows(module + Self.suffixB, tensors))
            let own = String(module.dropFirst(Self.prefix.count))
            guard let (weight, order) = names.weight(own) else {
                throw FormatError(
                    "\(weights): \(architecture) has no module \(own.prefix(200)) that an adapter could be for; it is one of "
                        + "another model, or of a part that Ebb leaves as it is")
            }
            try names.demandHeads(order, rows: b.n, of: module, path: weights)
            return AdapterPart(weight: weight, a: a, b: b, factor: try scaling.factor(own, rank: a.n), order: order)
        }
    }

    /// The modules that have a pair of matrices; nothing else may be there.
    private static func modules(_ file: SafetensorsFile) throws -> [String] {
        var left = Set(file.tensors.keys)
        let found = left.filter { $0.hasSuffix(suffixA) && $0.hasPrefix(prefix) }.map {
            String($0.dropLast(suffixA.count))
        }
        for module in found {
            guard left.contains(module + suffixB) else {
                throw FormatError("\(file.file.path): the tensor \(module + suffixB) is missing")
            }
            left.subtract([module + suffixA, module + suffixB])
        }
        guard let other = left.min() else { return found.sorted() }
        let why =
            if other.contains("lora_embedding_") {
                "an adapter of the embedding is not supported; train it without embed_tokens"
            } else if other.contains("lora_magnitude_vector") {
                "DoRA is not supported; train it as LoRA, or merge it into the model"
            } else if other.hasSuffix(".bias") {
                "biases are not supported; train it with bias=\"none\""
            } else {
                "it is no part of a LoRA adapter and would be left out (modules_to_save are not supported)"
            }
        throw FormatError("\(file.file.path): the tensor \(other.prefix(200)): \(why)")
    }

    private static func rows(_ name: String, _ file: SafetensorsFile) throws -> AdapterPart.Rows {
        guard let tensor = file.tensors[name], tensor.type.isFloat else {
            throw FormatError("\(file.file.path): \(name) is not F32, F16 or BF16")
        }
        guard tensor.shape.count == 2, tensor.shape.allSatisfy({ $0 > 0 && $0 <= Int(Int32.max) }) else {
            throw FormatError("\(file.file.path): \(name) has the shape \(tensor.shape), but is a matrix")
        }
        let k = tensor.shape[1]
        return AdapterPart.Rows(n: tensor.shape[0], k: k, isHalf: tensor.type == .f16) { row, out in
            file.read(tensor, from: row * k, count: k, into: out)
        }
    }
}

/// How often B A counts, as adapter_config.json says.
private struct PEFTScaling {
    private let path: String
    private let rank: Int
    private let alpha: Double
    /// Divides by the root of the rank instead (Kalajdzievski 2023).
    private let isRankStabilized: Bool
    /// Of modules that have their own.
    private let ranks, alphas: [(module: String, value: Double)]

    init(_ config: FolderSettings) throws {
        path = config.path
        let kind = try config.text("peft_type") ?? "none"
        guard kind == "LORA" else {
            throw config.refusal("peft_type", "is \"\(kind.prefix(80))\", which is not supported (LORA is)")
        }
        rank = try config.required("r", limit: AdapterSource.mostRank)
        alpha = try config.number("lora_alpha") ?? 8
        isRankStabilized = try config.flag("use_rslora") ?? false
        (ranks, alphas) = (try Self.pattern("rank_pattern", config), try Self.pattern("alpha_pattern", config))
        Self.judge(config)
        try Self.demandPlainStart(config)
    }

    /// Other keys: those that change nothing, and those that do where they are set.
    private static func judge(_ config: FolderSettings) {
        config.allow([
            // Which modules have matrices the weights say.
            "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
            // Training, and where it came from.
            "lora_dropout", "task_type", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping",
            "peft_version", "megatron_config", "megatron_core", "eva_config", "runtime_config", "qalora_group_size",
        ])
        let off: [KnownJSON.Value] = [.bool(false)]
        config.demand([
            "use_dora": off, "use_qalora": off, "lora_bias": off, "fan_in_fan_out": off, "use_bdlora": off,
            "ensure_weight_tying": off, "bias": [.text("none")], "modules_to_save": [.empty],
            "layer_replication": [.empty],
            "trainable_token_indices": [.empty], "target_parameters": [.empty], "loftq_config": [.empty],
            "corda_config": [.empty], "lora_ga_config": [.empty], "arrow_config": [.empty],
            "alora_invocation_tokens": [.empty], "kasa_config": [.empty], "monteclora_config": [.empty],
            "velora_config": [.empty],
        ])
    }

    /// Starts that change the model's own weights, without which the adapter is another.
    private static func demandPlainStart(_ config: FolderSettings) throws {
        guard let start = config["init_lora_weights"]?.string, !["gaussian", "eva", "orthogonal"].contains(start) else {
            return
        }
        throw config.refusal(
            "init_lora_weights",
            "is \"\(start.prefix(80))\", which changes the model's own weights: convert the adapter to plain LoRA first"
        )
    }

    private static func pattern(_ key: String, _ config: FolderSettings) throws -> [(module: String, value: Double)] {
        guard let object = config[key]?.object else { return [] }
        return try object.map { module, node in
            let isName = module.utf8.allSatisfy { byte in
                switch UInt8(byte) {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
            guard isName, !module.isEmpty, let value = node.number, value.isFinite, value > 0 else {
                throw config.refusal(
                    key, "has \"\(module.prefix(80))\": names of modules with a number each are possible")
            }
            return (module, value)
        }
    }

    private static func value(_ module: String, _ patterns: [(module: String, value: Double)]) -> Double? {
        patterns.first { module == $0.module || module.hasSuffix("." + $0.module) }?.value
    }

    /// - Throws: ``FormatError`` where the matrices have another rank than the configuration says.
    func factor(_ module: String, rank found: Int) throws -> Float {
        let said = Self.value(module, ranks) ?? Double(rank)
        guard said == Double(found) else {
            throw FormatError(
                "\(path) says a rank of \(said) for \(module.prefix(200)), but its matrices have \(found)")
        }
        let alpha = Self.value(module, alphas) ?? alpha
        return Float(alpha / (isRankStabilized ? said.squareRoot() : said))
    }
}
