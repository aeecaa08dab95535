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
}

/// How a model is run inside this program.
struct EngineOptions: ParsableArguments {
    @Option(help: "Threads to compute with (default: one for each core).")
    var threads: Int?

    @Option(help: "Execution mode: dequantized or memory_low.")
    var mode: ExecutionMode = .memoryLow

    @Option(help: "What dequantized weights are expanded to: f16 or f32.")
    var precision: ExpandedPrecision = .f16

    func validate() throws {
        if let threads, !(1...256).contains(threads) { throw ValidationError("--threads takes 1 to 256.") }
    }

    /// Opens a model of the folder, ready to run.
    func load(_ name: String, _ folder: ModelFolder) throws -> DecoderModel {
        let kernels = try Kernels.fromEnvironment()
        let pool = try WorkerPool(threads: threads ?? sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let model = try DecoderModel(
            try folder.store.open(name), pool: pool, kernels: kernels,
            options: ModelOptions(sequences: 2, precision: precision))
        try model.setAll(expanded: mode == .dequantized, kernels: kernels)
        return model
    }
}

enum ExecutionMode: String, ExpressibleByArgument, CaseIterable {
    case dequantized
    case memoryLow = "memory_low"
}

extension ExpandedPrecision: ExpressibleByArgument {}
