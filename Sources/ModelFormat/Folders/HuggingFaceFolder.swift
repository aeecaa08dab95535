import Foundation
import Quantization

/// A folder as Hugging Face models come: config.json, weights as safetensors (in one file or in shards), tokenizer.json, and
/// what stands beside them. Each family has a file here that gives its tensors and settings the names which GGUF has for
/// them. What Ebb would compute without is refused by name: every key of the configuration and every tensor is accounted
/// for.
public struct HuggingFaceFolder: ModelSource {
    public let path: String
    public let tensors: [SourceTensor]
    public let byteCount: Int
    public let notices: [String]
    private let contents: FolderContents
    private let recipes: [String: FolderTensor]

    public var format: String { "safetensors" }

    static let decoders: [any DecoderFolder.Type] = [
        LlamaFolder.self, Qwen2Folder.self, Qwen3Folder.self, Qwen3MoEFolder.self, Gemma2Folder.self, Gemma3Folder.self,
        Phi3Folder.self, GraniteFolder.self, SmolLM3Folder.self, OLMo2Folder.self, OLMoEFolder.self, GPTOSSFolder.self,
    ]

    /// - Throws: ``FormatError`` where a file is missing, or holds what Ebb does not run.
    public init(path: String) throws {
        self.path = path
        contents = try Self.contents(path)
        tensors = contents.tensors.map(\.source)
        recipes = Dictionary(contents.tensors.map { ($0.source.name, $0) }) { first, _ in first }
        (byteCount, notices) = (contents.byteCount, contents.notices)
    }

    private static func contents(_ path: String) throws -> FolderContents {
        let modules = try SentenceModules(folder: path)
        let file = try FolderFile(modules.transformerFolder, "config.json")
        let settings = FolderSettings(file.path, try file.members())
        let type = try settings.text("model_type") ?? "none"
        if let encoder = try EncoderFolder.contents(path, type: type, modules, file) { return encoder }
        guard let family = decoders.first(where: { $0.modelTypes.contains(type) }) else {
            throw unsupported(path, type)
        }
        return try DecoderContents(path, modules, settings, family).contents
    }

    private static func unsupported(_ path: String, _ type: String) -> FormatError {
        let known = (EncoderFolder.modelTypes + decoders.flatMap { $0.modelTypes }).joined(separator: ", ")
        return FormatError(
            "\(path): a folder of the model type \"\(type.prefix(80))\" is not supported (\(known) are; convert others to "
                + "GGUF)")
    }

    public func encodedMetadata(except: Set<String>) throws -> MetadataEncoder {
        var metadata = MetadataEncoder()
        contents.metadata.encode(into: &metadata, except: except)
        try contents.tokenizer.encode(into: &metadata, ends: contents.ends)
        return metadata
    }

    private func recipe(_ tensor: SourceTensor) throws -> FolderTensor {
        guard let recipe = recipes[tensor.name] else {
            throw FormatError("\(path): the tensor \(tensor.name) is missing")
        }
        return recipe
    }

    public func read(_ tensor: SourceTensor, channel: Int, into out: UnsafeMutablePointer<Float>) throws {
        try recipe(tensor).read(channel: channel, into: out)
    }

    public func copy(_ tensor: SourceTensor, to writer: EbbWriter, progress: (Int) -> Void) throws {
        guard case .quantized(let scheme) = tensor.encoding else {
            return try copyFloats(tensor, as: tensor.encoding, to: writer, progress: progress)
        }
        let recipe = try recipe(tensor)
        try copyCodes(tensor, scheme, to: writer, progress: progress) { recipe.code(channel: $0, into: $1) }
    }
}

/// What a folder holds, under the container's names.
struct FolderContents: Sendable {
    var tensors: [FolderTensor]
    var metadata: FolderMetadata
    var tokenizer: any FolderTokenizer
    var ends: TextEndTokens
    var byteCount: Int
    var notices: [String] = []
}

/// A family of decoders as folders have it.
protocol DecoderFolder: Sendable {
    /// `model_type` in config.json.
    static var modelTypes: [String] { get }
    /// As GGUF has it.
    static var architecture: String { get }
    /// What each layer has, but for experts.
    static var modules: [DecoderPlan.Module] { get }
    static func plan(_ config: FolderSettings, _ checkpoint: CheckpointTensors) throws -> DecoderPlan
}

/// The folder of a decoder, read whole.
private struct DecoderContents {
    let contents: FolderContents

    init(
        _ path: String, _ modules: SentenceModules, _ outer: FolderSettings, _ family: any DecoderFolder.Type
    ) throws {
        let text = try outer.settings("text_config")
        if text != nil { Self.allowOtherSenses(outer) }
        let config = text ?? outer
        let quantization = try FolderQuantization(outer)
        let weights = try FolderWeights(folder: modules.transformerFolder)
        let checkpoint = CheckpointTensors(
            weights, quantization, isEmbedder: modules.isSaid, spellings: CheckpointTensors.decoder)
        let plan = try family.plan(config, checkpoint)
        let tokens = try DecoderTokens(modules.transformerFolder, outer, config, rows: Self.vocabulary(plan))
        try outer.finish()
        try checkpoint.finish(plan.metadata.architecture) { Self.isHarmless($0, seesToo: text != nil) }
        var metadata = plan.metadata
        metadata["general.name"] = .text(String(path.split(separator: "/").last ?? "model"))
        tokens.describe(&metadata)
        var all = FolderContents(
            tensors: plan.tensors, metadata: metadata, tokenizer: tokens.tokenizer, ends: tokens.ends,
            byteCount: weights.byteCount, notices: checkpoint.notices)
        if plan.isEmbedder { try Self.addPooling(modules, plan, &all) }
        contents = all
    }

    /// What makes embeddings of a decoder's rows.
    private static func addPooling(
        _ modules: SentenceModules, _ plan: DecoderPlan, _ contents: inout FolderContents
    ) throws {
        modules.describe(&contents.metadata)
        if let most = modules.maxTokens ?? contents.tokenizer.maxTokens {
            guard most > 0 else { throw FormatError("\(modules.transformerFolder): texts have at most \(most) tokens") }
            contents.metadata[".max_tokens"] = .count(UInt32(clamping: min(most, plan.context)))
        }
        let denses = try modules.denseTensors()
        contents.tensors += denses.tensors
        contents.byteCount += denses.byteCount
        try modules.demandWidths(from: plan.hidden)
    }

    /// Rows of the embedding.
    private static func vocabulary(_ plan: DecoderPlan) throws -> Int {
        guard let embedding = plan.tensors.first(where: { $0.source.name == "token_embd.weight" })?.source else {
            throw FormatError("\(plan.config.path): there is no embedding")
        }
        if let said = try plan.config.count("vocab_size"), said != embedding.n {
            throw plan.config.refusal("vocab_size", "is \(said), but the embedding has \(embedding.n) rows")
        }
        return embedding.n
    }

    /// A model that sees or hears as well reads text by itself.
    private static func allowOtherSenses(_ outer: FolderSettings) {
        outer.allow(FolderSettings.harmless)
        outer.allow([
            "vision_config", "audio_config", "image_token_index", "image_token_id", "boi_token_index",
            "eoi_token_index",
            "boi_token_id", "eoi_token_id", "mm_tokens_per_image", "tie_word_embeddings", "hidden_size",
        ])
        outer.demand(FolderSettings.neutral)
    }

    /// Buffers that follow from the configuration, and what images pass.
    private static func isHarmless(_ name: String, seesToo: Bool) -> Bool {
        if name.hasSuffix(".rotary_emb.inv_freq") || name.hasSuffix(".attention.masked_bias") { return true }
        let parts = name.split(separator: ".")
        return seesToo && parts.prefix(2).contains { ["vision_tower", "multi_modal_projector"].contains($0) }
    }
}
