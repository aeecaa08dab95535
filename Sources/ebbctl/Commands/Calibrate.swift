import ArgumentParser
import Conversion
import Engine
import Glibc
import ModelFormat

struct Calibrate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "calibrate",
        abstract: "Collect the ranges of a model's activations, for full INT8.",
        usage: "ebbctl calibrate <source> --data <lines.txt> -o <file> [<options>]",
        discussion: """
            Runs typical texts through the model in floats and notes the range of every weight's input by five methods: \
            max, percentile, kl, ema and mse. ebbctl quantize --full-int8 fixes the scales by one of them.

            EXAMPLES
              ebbctl calibrate all-MiniLM-L6-v2/ --data lines.txt -o calibration.json
              ebbctl quantize all-MiniLM-L6-v2/ -o int8.ebb --full-int8 calibration.json
            """)

    @Argument(help: "What to calibrate: a path, or a model's name.")
    var source: String

    @Option(help: ArgumentHelp("Typical texts, one a line (or JSON lines with \"text\").", valueName: "lines.txt"))
    var data: String

    @Option(
        name: [.customShort("o"), .customLong("output")],
        help: ArgumentHelp("The new file.", valueName: "calibration.json"))
    var output: String

    @Option(help: "Threads to compute with (default: one for each performance core it may use).")
    var threads: Int?

    @Flag(help: "Replace the file where it exists.")
    var force = false

    @OptionGroup var folder: ModelFolder

    func validate() throws {
        try EngineOptions.check(threads: threads)
    }

    func run() throws {
        try OutputFile.demand(output, replaces: force)
        let texts = try CalibrationTexts.read(data)
        let source = try folder.source(source)
        let count = threads ?? WorkerPool.defaultThreads
        var progress = ProgressLine("calibrating")
        let model = try RunnableModel(source, expanded: true, threads: max(1, count))
        let calibration = try Calibration(model, texts: texts) { progress.update($0) }
        progress.clear()
        try calibration.write(to: output)
        try Terminal.out(
            """
            \(output): \(calibration.inputs.count) inputs, from \(calibration.texts) texts of \(calibration.tokens) tokens
            next: ebbctl quantize \(self.source) -o int8.ebb --full-int8 \(output)

            """)
    }
}
