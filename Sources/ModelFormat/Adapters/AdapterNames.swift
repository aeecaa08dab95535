/// The modules of a decoder as checkpoints call them, and the weights of a container that they are.
struct AdapterNames {
    private let modules: [String: DecoderPlan.Module]
    private let layers, headDim: Int

    /// - Parameter model: what the adapter is for.
    /// - Throws: ``FormatError`` where its family has no checkpoints that Ebb knows.
    init(_ model: some ModelDescription, _ architecture: String) throws {
        guard let family = HuggingFaceFolder.decoders.first(where: { $0.architecture == architecture }) else {
            throw FormatError(
                "\(model.path): adapters of \(architecture) models are not supported (those of decoders are)")
        }
        func count(_ key: String) throws -> Int {
            try model.metadata.requiredCount("\(architecture).\(key)", limit: 1 << 17)
        }
        layers = try count("block_count")
        headDim =
            try model.metadata["\(architecture).attention.key_length"] == nil
            ? count("embedding_length") / count("attention.head_count") : count("attention.key_length")
        modules = Dictionary(family.modules.map { ($0.theirs, $0) }) { first, _ in first }
    }

    /// The weight of a module, and which of its rows each output channel is; nil for what is none.
    func weight(_ module: String) -> (name: String, order: RowOrder)? {
        CheckpointTensors.alone(module).lazy.compactMap(weight(alone:)).first
    }

    /// - Parameter module: as a model alone calls it.
    private func weight(alone module: String) -> (name: String, order: RowOrder)? {
        if module == "lm_head" { return ("output.weight", .asStored) }
        if module == "model.embed_tokens" { return ("token_embd.weight", .asStored) }
        let parts = module.split(separator: ".", maxSplits: 3).map(String.init)
        guard parts.count == 4, parts[0] == "model", parts[1] == "layers", let layer = Int(parts[2]),
            (0..<layers).contains(layer), let found = modules[parts[3]]
        else { return nil }
        let order: RowOrder = found.rows == .asStored ? .asStored : .interleavedHalves(length: headDim)
        return ("blk.\(layer).\(found.name).weight", order)
    }

    /// Rows are put into another order head by head, so they have to be whole heads.
    func demandHeads(_ order: RowOrder, rows: Int, of module: String, path: String) throws {
        guard case .interleavedHalves(let length) = order else { return }
        guard length > 0, length % 2 == 0, rows % length == 0 else {
            throw FormatError("\(path): \(module) has \(rows) rows, which are no heads of \(length)")
        }
    }
}
