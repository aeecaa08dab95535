import Foundation
import Quantization

/// What an encoder family's Hugging Face folder says, and where its tensors are. One file each.
protocol EncoderFolderFamily: Sendable {
    /// `model_type` in config.json.
    static var modelTypes: [String] { get }
    /// The name in GGUF's `general.architecture`.
    static var architecture: String { get }
    /// The keys of its config.json.
    static var known: KnownJSON { get }
    /// What larger models put before the names of its tensors.
    static var prefixes: [String] { get }

    /// - Throws: ``FormatError`` for what Ebb does not compute.
    init(_ config: FolderFile) throws

    var layers: Int { get }
    var hidden: Int { get }
    var heads: Int { get }
    var feedForward: Int { get }
    /// Tokens of a text at most.
    var positions: Int { get }
    var vocabulary: Int { get }
    /// Whether embeddings may have rows beyond the vocabulary, up to a round number; what lies there is no token.
    var isPadded: Bool { get }
    var epsilon: Double { get }
    /// The encoder's tensors.
    var tensors: [EncoderTensor] { get }
    /// A classification head's tensors, the last of which is needed for it; it is taken where it is there.
    var head: [EncoderTensor] { get }
    /// Whether embeddings do not need a tensor, named without a prefix.
    func isHarmless(_ name: String) -> Bool
    /// Adds what the family has besides.
    func describe(_ metadata: inout FolderMetadata)
}

extension EncoderFolderFamily {
    var isPadded: Bool { true }
}

/// A tensor by its name in GGUF (`ours`) and in the folder.
struct EncoderTensor: Sendable {
    let ours, theirs: String
    /// Rows that are left out at the start: positions that no token has.
    var firstRow = 0
    var isOptional = false

    /// The weight and the bias of a layer.
    static func pair(_ ours: String, _ theirs: String) -> [EncoderTensor] {
        ["weight", "bias"].map { EncoderTensor(ours: "\(ours).\($0)", theirs: "\(theirs).\($0)") }
    }

    static func weight(_ ours: String, _ theirs: String) -> EncoderTensor {
        EncoderTensor(ours: "\(ours).weight", theirs: "\(theirs).weight")
    }
}

/// The folder of an encoder, with what sentence-transformers puts beside it (``SentenceModules``); or of a reranker, which
/// has a classification head.
struct EncoderFolder {
    private let path: String
    private let modules: SentenceModules
    private let family: any EncoderFolderFamily
    private let architecture: String
    private let tokenizer: any FolderTokenizer
    private let checkpoint: CheckpointTensors

    private static let families: [any EncoderFolderFamily.Type] = [
        BertFolder.self, NomicBertFolder.self, MPNetFolder.self, ModernBertFolder.self,
    ]

    /// `model_type` of the families.
    static var modelTypes: [String] { families.flatMap { $0.modelTypes } }

    /// What a folder holds; nil where no encoder family has that type of model.
    static func contents(_ path: String, type: String, _ modules: SentenceModules, _ config: FolderFile) throws
        -> FolderContents?
    {
        guard let family = families.first(where: { $0.modelTypes.contains(type) }) else { return nil }
        return try EncoderFolder(path, modules, family, config).contents()
    }

    private init(
        _ path: String, _ modules: SentenceModules, _ type: any EncoderFolderFamily.Type, _ config: FolderFile
    ) throws {
        (self.path, self.modules, architecture) = (path, modules, type.architecture)
        try type.known.check(config)
        family = try type.init(config)
        tokenizer = try TokenizerJSON.open(folder: modules.transformerFolder)
        let prefixes = [""] + type.prefixes
        checkpoint = CheckpointTensors(try FolderWeights(folder: modules.transformerFolder)) { name in
            // TensorFlow called the norms' parts otherwise.
            let old = name.replacingOccurrences(of: "LayerNorm.weight", with: "LayerNorm.gamma")
                .replacingOccurrences(of: "LayerNorm.bias", with: "LayerNorm.beta")
            return prefixes.map { $0 + name } + prefixes.map { $0 + old }
        }
        let isWhole = tokenizer.count == family.vocabulary
        guard isWhole || (family.isPadded && tokenizer.count < family.vocabulary) else {
            throw FormatError(
                "\(path): tokenizer.json has \(tokenizer.count) tokens, config.json says \(family.vocabulary)")
        }
        guard (1...1024).contains(family.layers) else {
            throw FormatError("\(path): \(family.layers) layers are impossible")
        }
    }

    private func contents() throws -> FolderContents {
        let isReranker = family.head.last.map { checkpoint.has($0.theirs) } ?? false
        var tensors = try (family.tensors + (isReranker ? family.head : [])).compactMap(tensor)
        let prefixes = type(of: family).prefixes
        try checkpoint.finish(architecture) { name in
            family.isHarmless(prefixes.first { name.hasPrefix($0) }.map { String(name.dropFirst($0.count)) } ?? name)
        }
        guard !isReranker || modules.denses.isEmpty else {
            throw FormatError("\(path): a reranker with dense layers is not supported")
        }
        let denses = try modules.denseTensors()
        tensors += denses.tensors
        try modules.demandWidths(from: family.hidden)
        return FolderContents(
            tensors: tensors, metadata: try metadata(isReranker: isReranker), tokenizer: tokenizer,
            ends: tokenizer.ends, byteCount: checkpoint.weights.byteCount + denses.byteCount)
    }

    /// A tensor, less the rows that no token has; nil where it may be missing and is.
    private func tensor(_ tensor: EncoderTensor) throws -> FolderTensor? {
        if tensor.isOptional, !checkpoint.has(tensor.theirs) { return nil }
        let matrix = try checkpoint.floats(tensor.theirs)
        // That there is a row for each token is the engine's to demand, of GGUFs as well.
        let end = tensor.ours == "token_embd.weight" ? min(tokenizer.count, matrix.rows) : matrix.rows
        guard tensor.firstRow < end else {
            throw FormatError("\(checkpoint.weights.path): \(matrix.name) has only \(matrix.rows) rows")
        }
        guard tensor.firstRow > 0 || end < matrix.rows else { return try FolderTensor(tensor.ours, [matrix]) }
        return try FolderTensor(
            tensor.ours, [matrix],
            order: .part(first: tensor.firstRow, rows: end - tensor.firstRow, of: matrix.rows))
    }

    /// GGUF's pooling type of rerankers.
    private static let rank: UInt32 = 4

    private func metadata(isReranker: Bool) throws -> FolderMetadata {
        var metadata = FolderMetadata(architecture: architecture)
        metadata["general.name"] = .text(String(path.split(separator: "/").last ?? "encoder"))
        // Tokens of a text at most, those around it included.
        let maxTokens = min(modules.maxTokens ?? tokenizer.maxTokens ?? family.positions, family.positions)
        for (key, value) in [
            ("block_count", family.layers), ("embedding_length", family.hidden),
            ("attention.head_count", family.heads), ("feed_forward_length", family.feedForward),
            ("context_length", family.positions), ("max_tokens", maxTokens),
        ] {
            guard let value = UInt32(exactly: value) else { throw FormatError("\(path): \(key) is \(value)") }
            metadata[".\(key)"] = .count(value)
        }
        metadata[".attention.layer_norm_epsilon"] = .number(Float(family.epsilon))
        if isReranker { metadata[".pooling_type"] = .count(Self.rank) } else { modules.describe(&metadata) }
        family.describe(&metadata)
        return metadata
    }
}

extension KnownJSON {
    /// The keys that any encoder's config.json may have without a result depending on them.
    private static let encoderHarmless = anyHarmless.union([
        // With what it was written.
        "sentence_transformers",
        // Training.
        "embedding_dropout", "mlp_dropout", "initializer_cutoff_factor", "deterministic_flash_attn",
        "reference_compile", "repad_logits_with_grad", "sparse_prediction", "sparse_pred_ignore_index", "decoder_bias",
        // The tokenizer says them.
        "bos_token_id", "eos_token_id",
        // What heads that are not used have.
        "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
        "pooler_size_per_head", "pooler_type", "tie_word_embeddings", "tie_encoder_decoder",
    ])

    /// The keys that change nothing with these values in any encoder.
    private static let encoderNeutral = anyNeutral.mapValues { [.null] + $0 }.merging([
        "position_embedding_type": [.null, .text("absolute")], "quantization_config": [.null],
    ]) { _, own in own }

    /// An encoder's: those that its family reads, and those that all have.
    static func encoder(
        used: Set<String>, harmless: Set<String> = [], neutral: [String: [Value]] = [:]
    ) -> KnownJSON {
        KnownJSON(
            used: used, harmless: encoderHarmless.union(harmless).subtracting(used),
            neutral: encoderNeutral.merging(neutral) { _, new in new })
    }
}
