import ArgumentParser
import Engine
import Glibc
import ModelFormat

/// Where models are; for commands that read them without a daemon.
struct ModelFolder: ParsableArguments {
    @Option(
        help: ArgumentHelp("Folder of models.", discussion: "$EBB_MODELS, or the daemon's default.", valueName: "dir"))
    var models: String?

    var store: ModelStore { ModelStore(folder: models ?? ModelStore.defaultFolder) }

    /// Opens a model by its name, or an `.ebb` file by its path.
    func open(_ model: String) throws -> EbbFile {
        if model.hasSuffix(".ebb") { return try EbbFile(path: model) }
        do {
            return try store.open(model)
        } catch let error as FormatError {
            // The name, or the file that has it?
            if let path = try? store.path(of: model), access(path, F_OK) == 0 { throw error }
            throw CommandError(.unknownModel, error.description)
        }
    }
}

extension ModelFolder {
    init(at folder: String?) {
        self.init()
        models = folder
    }

    /// A model to convert: a path, or a model's name.
    func source(_ model: String) throws -> any ModelSource {
        if access(model, F_OK) == 0 || model.contains("/") || model.hasSuffix(".gguf") {
            return try ModelSources.open(model)
        }
        return EbbSource(try open(model))
    }
}

/// How a model is run inside this program.
struct EngineOptions: ParsableArguments {
    @Option(help: "Threads to compute with (default: one for each performance core it may use).")
    var threads: Int?

    @Option(help: "Execution mode: dequantized or memory_low.")
    var mode: ExecutionMode = .memoryLow

    @Option(
        help: "What dequantized weights are expanded to: f16, f32, or bf16 (faster where the CPU has it, less exact).")
    var precision: ExpandedPrecision = .f16

    func validate() throws {
        try Self.check(threads: threads)
    }

    /// - Parameter option: what the command calls it.
    static func check(threads: Int?, as option: String = "--threads") throws {
        if let threads, !(1...256).contains(threads) { throw ValidationError("\(option) takes 1 to 256.") }
    }

    /// Opens a decoder, ready to run.
    func load(_ name: String, _ folder: ModelFolder, sequences: Int = 2) throws -> DecoderModel {
        let file = try folder.open(name)
        guard !EncoderModel.isEncoder(file) else {
            throw CommandError(
                .badInput, "\(name) is an encoder, which predicts no tokens: see ebbctl embed and rerank")
        }
        return try prepare(
            try DecoderModel(
                file, pool: try pool(), kernels: try Kernels.fromEnvironment(),
                options: ModelOptions(sequences: sequences, precision: precision)))
    }

    /// Opens an encoder, ready to run.
    func loadEncoder(_ name: String, _ folder: ModelFolder) throws -> EncoderModel {
        let file = try folder.open(name)
        guard EncoderModel.isEncoder(file) else {
            throw CommandError(
                .badInput, "\(name) is a decoder, which makes no embeddings and ranks nothing: see ebbctl run")
        }
        return try prepare(
            try EncoderModel(file, pool: try pool(), kernels: try Kernels.fromEnvironment(), precision: precision))
    }

    func pool() throws -> WorkerPool {
        try WorkerPool(threads: threads ?? WorkerPool.defaultThreads)
    }

    private func prepare<Model: LayeredModel>(_ model: Model) throws -> Model {
        try model.setAll(expanded: mode == .dequantized)
        return model
    }
}

enum ExecutionMode: String, ExpressibleByArgument, CaseIterable {
    case dequantized
    case memoryLow = "memory_low"
}

extension ExpandedPrecision: ExpressibleByArgument {}
