/// A folder of a decoder on its way to GGUF's names, keys and order of rows: those of llama.cpp's converter
/// (https://github.com/ggml-org/llama.cpp, `conversion/`), so that a model is the same whichever way it comes.
final class DecoderPlan {
    let config: FolderSettings
    let checkpoint: CheckpointTensors
    var metadata: FolderMetadata
    /// Whether the model makes embeddings.
    var isEmbedder: Bool
    private(set) var tensors: [FolderTensor] = []
    let layers, hidden, heads, headDim: Int
    /// Tokens that the model was made for.
    let context: Int

    /// What a family takes where config.json leaves it out, as its class in `transformers` has it.
    struct Usual {
        var heads, keyValueHeads, headDim, context: Int?
        var epsilon: Double?
    }

    /// Reads what all decoders have.
    init(
        _ architecture: String, _ config: FolderSettings, _ checkpoint: CheckpointTensors, usual: Usual = Usual()
    ) throws {
        (self.config, self.checkpoint) = (config, checkpoint)
        metadata = FolderMetadata(architecture: architecture)
        isEmbedder = checkpoint.isEmbedder
        layers = try config.required("num_hidden_layers", limit: 1024)
        hidden = try config.required("hidden_size", limit: 1 << 17)
        heads = try config.required("num_attention_heads", limit: 1024, usual: usual.heads)
        let said = try config["head_dim"].map { _ in try config.required("head_dim", limit: 1 << 16) } ?? usual.headDim
        guard let headDim = said ?? (hidden % heads == 0 ? hidden / heads : nil) else {
            throw config.refusal("hidden_size", "is \(hidden), not a multiple of \(heads) heads")
        }
        self.headDim = headDim
        context = try config.required("max_position_embeddings", usual: usual.context)
        try describe(usual, headDim: said)
        config.allow(FolderSettings.harmless)
        config.demand(FolderSettings.neutral)
        config.allow(["model_type", "vocab_size"])
    }

    private func describe(_ usual: Usual, headDim said: Int?) throws {
        let keyValueHeads = try config.required("num_key_value_heads", limit: 1024, usual: usual.keyValueHeads ?? heads)
        guard let epsilon = try config.number("rms_norm_eps") ?? usual.epsilon, epsilon > 0, epsilon < 1 else {
            throw config.refusal("rms_norm_eps", "is missing or impossible")
        }
        metadata[".block_count"] = .count(UInt32(layers))
        metadata[".context_length"] = .count(UInt32(context))
        metadata[".embedding_length"] = .count(UInt32(hidden))
        metadata[".feed_forward_length"] = .count(UInt32(try config.required("intermediate_size")))
        metadata[".attention.head_count"] = .count(UInt32(heads))
        metadata[".attention.head_count_kv"] = .count(UInt32(keyValueHeads))
        metadata[".attention.layer_norm_rms_epsilon"] = .number(Float(epsilon))
        if let said {
            metadata[".attention.key_length"] = .count(UInt32(said))
            metadata[".attention.value_length"] = .count(UInt32(said))
        }
    }

    /// Demands the activation between the two products of the feed-forward part.
    func demandActivation(_ names: [String], keys: [String] = ["hidden_act"]) throws {
        config.demand(Dictionary(uniqueKeysWithValues: keys.map { ($0, names.map { .text($0) }) }))
    }

    /// Demands that heads share the hidden width, in families whose length of a head has no key.
    func demandHeadsOfHidden() throws {
        guard headDim * heads == hidden else {
            throw config.refusal("head_dim", "is \(headDim): \(hidden / heads) is possible")
        }
        metadata.remove(".attention.key_length")
        metadata.remove(".attention.value_length")
    }

    /// Demands that layers are of these kinds, where the configuration lists them.
    func demandLayerTypes(_ isLocal: (Int) -> Bool) throws {
        guard let types = try config.texts("layer_types") else { return }
        guard types.count == layers else {
            throw config.refusal("layer_types", "has \(types.count) entries for \(layers) layers")
        }
        guard types == (0..<layers).map({ isLocal($0) ? "sliding_attention" : "full_attention" }) else {
            throw config.refusal("layer_types", "has layers of other kinds than Ebb computes")
        }
    }

    // MARK: Tensors

    func add(_ tensor: FolderTensor) throws {
        tensors.append(tensor)
        if let order = try tensor.inputOrder() { tensors.append(order) }
    }

    /// A part of each layer: a module with a weight, and with a bias where the checkpoint has one.
    struct Module: Sendable {
        let name, theirs: String
        var rows = Rows.asStored
        /// 1 for norms that checkpoints store less 1.
        var adding: Float = 0

        enum Rows: Sendable { case asStored, query, key }

        init(_ name: String, _ theirs: String, _ rows: Rows = .asStored, adding: Float = 0) {
            (self.name, self.theirs, self.rows, self.adding) = (name, theirs, rows, adding)
        }
    }

    /// The modules of all layers.
    func addLayers(_ modules: [Module], asFloats: Set<String> = []) throws {
        for layer in 0..<layers {
            for module in modules {
                let theirs = "model.layers.\(layer).\(module.theirs)"
                let name = "blk.\(layer).\(module.name)"
                let order: RowOrder = module.rows == .asStored ? .asStored : .interleavedHalves(length: headDim)
                let weight = try checkpoint.weight(theirs)
                try demandHeads(weight, module)
                try add(
                    try FolderTensor(
                        name + ".weight", [weight], order: order, adding: module.adding,
                        asFloats: asFloats.contains(module.name)))
                try addBias(name, theirs, order, module)
            }
        }
    }

    private func addBias(_ name: String, _ theirs: String, _ order: RowOrder, _ module: Module) throws {
        guard checkpoint.has(theirs + ".bias") else { return }
        let bias = try checkpoint.floats(theirs + ".bias")
        guard bias.isVector else { throw FormatError("\(bias.name) has the shape \(bias.shape), but is no vector") }
        if try isAddedByQuantizer(bias) { return }
        try demandHeads(bias, module)
        try add(FolderTensor(name + ".bias", [bias], order: order))
    }

    /// Programs for GPTQ give every quantized product a bias, of zeros where the model has none.
    private func isAddedByQuantizer(_ bias: any FolderMatrix) throws -> Bool {
        guard case .packed = checkpoint.quantization, try config.flag("attention_bias") != true,
            metadata.architecture != "qwen2"
        else { return false }
        return (0..<bias.rows).allSatisfy { row in
            var value: Float = 0
            bias.read(row: row, into: &value)
            return value == 0
        }
    }

    /// Rows are put into another order head by head, so they have to be whole heads.
    private func demandHeads(_ matrix: any FolderMatrix, _ module: Module) throws {
        guard module.rows != .asStored else { return }
        guard headDim % 2 == 0, matrix.rows % headDim == 0 else {
            throw FormatError("\(matrix.name) has \(matrix.rows) rows, which are no heads of \(headDim)")
        }
    }

    /// The embedding, the last norm and the output.
    /// - Parameter isTied: whether the embedding is the output, where the configuration does not say so.
    func addOuter(isTied: Bool = false, normAdding: Float = 0) throws {
        try add(FolderTensor("token_embd.weight", [try checkpoint.weight("model.embed_tokens")], isTable: true))
        let norm = try checkpoint.floats("model.norm.weight")
        try add(FolderTensor("output_norm.weight", [norm], adding: normAdding))
        let isTied = try config.flag("tie_word_embeddings") ?? (isTied && !checkpoint.hasWeight("lm_head"))
        if isTied || isEmbedder {
            // The same values once more, or what embeddings do not need.
            if checkpoint.has("lm_head.weight") { _ = try checkpoint.use("lm_head.weight") }
        } else {
            try add(FolderTensor("output.weight", [try checkpoint.weight("lm_head")]))
        }
    }

    /// The experts of all layers, each kind as one matrix with the rows of one expert below those of another.
    func addExperts(_ count: Int, _ modules: [(name: String, theirs: String)]) throws {
        for layer in 0..<layers {
            for module in modules {
                let parts = try (0..<count).map { expert in
                    try checkpoint.weight("model.layers.\(layer).mlp.experts.\(expert).\(module.theirs)")
                }
                if let vector = parts.first(where: \.isVector) { throw FormatError("\(vector.name) is no matrix") }
                try add(FolderTensor("blk.\(layer).\(module.name).weight", parts))
            }
        }
    }
}

extension DecoderPlan {
    /// What each layer of llama's relatives has, under GGUF's names and those of checkpoints.
    static let attention = [
        Module("attn_norm", "input_layernorm"), Module("attn_q", "self_attn.q_proj"),
        Module("attn_k", "self_attn.k_proj"), Module("attn_v", "self_attn.v_proj"),
        Module("attn_output", "self_attn.o_proj"),
    ]
    static let interleavedAttention = [
        Module("attn_norm", "input_layernorm"), Module("attn_q", "self_attn.q_proj", .query),
        Module("attn_k", "self_attn.k_proj", .key), Module("attn_v", "self_attn.v_proj"),
        Module("attn_output", "self_attn.o_proj"),
    ]
    static let headNorms = [Module("attn_q_norm", "self_attn.q_norm"), Module("attn_k_norm", "self_attn.k_norm")]
    static let feedForward = [
        Module("ffn_gate", "mlp.gate_proj"), Module("ffn_up", "mlp.up_proj"), Module("ffn_down", "mlp.down_proj"),
    ]
    static let feedForwardNorm = [Module("ffn_norm", "post_attention_layernorm")]
}
