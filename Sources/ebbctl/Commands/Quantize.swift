import ArgumentParser
import Conversion
import Engine
import Glibc
import ModelFormat
import Quantization

struct Quantize: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quantize",
        abstract: "Make a model smaller: 2 to 8 bits, f16, mixed widths, or full INT8.",
        discussion: """
            Reads a GGUF file, a Hugging Face folder, an .ebb file or a model of the folder, and writes an \
            .ebb file. The recipe that was used is written beside it and into it, so that a run can be repeated. ebbctl \
            advise helps to choose; ebbctl evaluate measures what was lost.

            EXAMPLES
              ebbctl quantize all-MiniLM-L6-v2/ -o minilm-4.ebb --weight-bits 4 --hqq
              ebbctl quantize minilm -o 4.ebb --method gptq --calibration lines.txt
              ebbctl quantize minilm -o minilm-f16.ebb --fp16
              ebbctl quantize minilm -o small.ebb --target-size 12MB --hqq
              ebbctl quantize minilm -o close.ebb --max-loss 0.01 --eval lines.txt
              ebbctl quantize minilm -o int8.ebb --full-int8 calibration.json
            """)

    @Argument(help: "What to quantize: a path, or a model's name.")
    var source: String

    @Option(
        name: [.customShort("o"), .customLong("output")], help: ArgumentHelp("The new file.", valueName: "out.ebb"))
    var output: String

    @OptionGroup(title: "How") var options: QuantizationOptions
    @OptionGroup(title: "Mixed widths") var mixed: MixedOptions
    @OptionGroup(title: "Full INT8") var int8: Int8Options

    @Option(help: "Threads to compute with (default: one for each performance core it may use).")
    var jobs: Int?

    @Flag(help: "Replace the file where it exists.")
    var force = false

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var folder: ModelFolder

    func validate() throws {
        try EngineOptions.check(threads: jobs, as: "--jobs")
        if !output.hasSuffix(".ebb") { throw ValidationError("--output must end in .ebb.") }
        if mixed.goal != nil {
            guard options.weightBits == nil, options.recipe == nil, !options.fp16 else {
                throw ValidationError(
                    "--target-size and --max-loss choose the widths; leave --weight-bits and --recipe out.")
            }
        }
        if int8.fullInt8 != nil, mixed.goal != nil || options.choosesScheme {
            throw ValidationError("--full-int8 excludes the options of other methods.")
        }
    }

    func run() throws {
        let source = try folder.source(source)
        try OutputFile.demand(output, replaces: force)
        let start = ContinuousClock.now
        let (plan, loss) = try write(source)
        let recipe = output.dropLast(4) + ".recipe.json"
        try RecipeFile.write(plan.recipe, to: String(recipe))
        let seconds = (ContinuousClock.now - start).seconds
        try report(source, plan, recipe: String(recipe), loss: loss, seconds: seconds)
    }

    private var threads: Int { jobs ?? WorkerPool.defaultThreads }

    private func write(_ source: any ModelSource) throws -> (QuantizationPlan, OutputLoss?) {
        let calibration = try options.calibration.map { try CalibrationTexts.read($0) }
        let quantizer = Quantizer(source, calibration: calibration, threads: threads)
        var progress = ProgressLine("quantizing")
        defer { progress.clear() }
        if let path = int8.fullInt8 {
            let int8 = try FullInt8(
                source, try Calibration.read(path), range: int8.range, smoothing: int8.smooth ?? .automatic,
                keep: options.keep,
                kept: source.isQuantized ? .f16 : .source)
            let plan = try quantizer.write(int8, to: output) { progress.update($0) }
            progress.note("measuring the loss")
            return (plan, try mixed.reference(source, threads).loss(of: try written()))
        }
        if let goal = mixed.goal {
            let choice = try choose(goal, source, quantizer, calibration)
            let plan = try QuantizationPlan(source, choice.recipe)
            try quantizer.write(plan, to: output) { progress.update($0) }
            return (plan, choice.loss)
        }
        let plan = try QuantizationPlan(source, try options.chosenRecipe(for: source))
        try quantizer.write(plan, to: output) { progress.update($0) }
        return (plan, nil)
    }

    private func written() throws -> RunnableModel {
        try RunnableModel(EbbSource(try EbbFile(path: output)), expanded: false, threads: threads)
    }

    private func choose(
        _ goal: MixedPrecision.Goal, _ source: any ModelSource, _ quantizer: Quantizer, _ calibration: [String]?
    ) throws -> MixedPrecision.Choice {
        var progress = ProgressLine("measuring each matrix' sensitivity")
        defer { progress.clear() }
        let model = try RunnableModel(source, expanded: true, threads: threads)
        let reference = try ReferenceOutputs(model, texts: try mixed.texts(calibration))
        let keep = options.keep.map { Recipe.Rule(tensors: $0, keep: source.isQuantized ? .f16 : .source) }
        let plan = try QuantizationPlan(source, try options.chosenRecipe(for: source))
        let sensitivity = try Sensitivity(
            source, model: model, reference: reference, names: plan.quantizedNames, block: options.block ?? 32,
            asymmetric: options.symmetry != .symmetric
        ) { progress.update($0) }
        let search = MixedPrecision(
            source, sensitivity, reference: reference, method: options.method ?? (options.hqq ? .hqq : .mse),
            keep: [keep].compactMap { $0 }, threads: threads
        ) { plan, path in try quantizer.write(plan, to: path) }
        return try search.choose(goal) { progress.note($0) }
    }

    private struct Result: Encodable {
        let path, recipe, summary: String
        let bytes, sourceBytes, floatBytes: Int
        let seconds: Double
        let loss: LossReport?

        enum CodingKeys: String, CodingKey {
            case path, recipe, summary, bytes, seconds, loss
            case sourceBytes = "source_bytes"
            case floatBytes = "float_bytes"
        }
    }

    private func report(
        _ source: any ModelSource, _ plan: QuantizationPlan, recipe: String, loss: OutputLoss?, seconds: Double
    ) throws {
        let file = try EbbFile(path: output)
        let result = Result(
            path: output, recipe: recipe, summary: plan.summary, bytes: file.byteCount, sourceBytes: source.byteCount,
            floatBytes: source.floatBytes, seconds: seconds, loss: loss.map(LossReport.init))
        if json { return try JSONOutput.line(result) }
        let share = Human.decimal(Double(result.bytes) / Double(result.floatBytes) * 100, 1)
        let rate = Human.bytes(Int(Double(result.floatBytes) / max(seconds, 1e-3)))
        try Terminal.out(
            """
            \(output): \(Human.bytes(result.bytes)), \(share) % of f32
            \(result.summary)
            \(Human.decimal(seconds, 1)) s, \(rate)/s of f32; recipe: \(recipe)

            """)
        if let loss = result.loss { try Terminal.out("loss: \(loss.sentence)\n") }
        try Terminal.out("next: ebbctl evaluate \(output) --against \(self.source)\n")
    }
}

/// Mixed widths by size or loss.
struct MixedOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Choose widths so that the file has this size at most.", valueName: "30MB"))
    var targetSize: ByteSize?

    @Option(
        help: ArgumentHelp(
            "Choose widths for the smallest file of at most this loss (1 - mean cosine, 1 - correlation of a reranker's "
                + "scores, or mean KL).", valueName: "x"))
    var maxLoss: Double?

    @Option(
        name: .customLong("eval"), help: ArgumentHelp("Texts to measure the loss with, one a line.", valueName: "file"))
    var evaluation: String?

    func validate() throws {
        if targetSize != nil, maxLoss != nil { throw ValidationError("Give --target-size or --max-loss, not both.") }
        if let maxLoss, !(maxLoss > 0 && maxLoss < 10) { throw ValidationError("--max-loss takes a number above 0.") }
    }

    var goal: MixedPrecision.Goal? { targetSize.map { .size($0.bytes) } ?? maxLoss.map { .loss($0) } }

    func texts(_ calibration: [String]? = nil) throws -> [String] {
        try evaluation.map { try CalibrationTexts.read($0) } ?? calibration ?? CalibrationTexts.standard
    }

    func reference(_ source: any ModelSource, _ threads: Int) throws -> ReferenceOutputs {
        try ReferenceOutputs(try RunnableModel(source, expanded: true, threads: threads), texts: try texts())
    }
}

/// Full-graph INT8.
struct Int8Options: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Fix the inputs' scales by a calibration of ebbctl calibrate.", valueName: "calibration.json"))
    var fullInt8: String?

    @Option(help: "Which of the calibrated ranges: max, percentile, kl, ema or mse.")
    var range: RangeMethod = .max

    @Option(
        help: ArgumentHelp(
            "Move outliers from activations to weights: SmoothQuant's exponent, 0 to 1, auto or none (default: auto).",
            valueName: "exponent"))
    var smooth: FullInt8.Smoothing?

    func validate() throws {
        if fullInt8 == nil, smooth != nil { throw ValidationError("--smooth belongs to --full-int8.") }
    }
}

extension RangeMethod: ExpressibleByArgument {}

extension FullInt8.Smoothing: ExpressibleByArgument {
    public init?(argument: String) {
        switch argument {
        case "none": self = .none
        case "auto": self = .automatic
        default:
            guard let exponent = Float(argument), (0...1).contains(exponent) else { return nil }
            self = .exponent(exponent)
        }
    }
}
