import ArgumentParser
import Conversion
import Engine
import Foundation
import ModelFormat

struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evaluate",
        abstract: "Measure what quantized models have lost against their source.",
        usage: "ebbctl evaluate <models> ... --against <source> [<options>]",
        discussion: """
            The weights: the signal-to-noise ratio of each matrix in decibels (6 dB are a bit). The outputs on some texts: \
            for encoders the cosine of the embeddings, for rerankers the correlation of the scores of pairs of the texts, for \
            decoders KL, top-1 agreement and perplexity.

            EXAMPLES
              ebbctl evaluate minilm-4.ebb --against all-MiniLM-L6-v2/
              ebbctl evaluate small.ebb --against model.gguf --texts lines.txt --json
              ebbctl evaluate q8.ebb q6.ebb q4.ebb --against minilm --plot loss.svg
            """)

    @Argument(help: "Quantized models: paths or names.")
    var models: [String]

    @Option(help: ArgumentHelp("What they were made of: a path, or a model's name.", valueName: "source"))
    var against: String

    @Option(help: ArgumentHelp("Texts, one a line (default: two dozen that come with ebbctl).", valueName: "file"))
    var texts: String?

    @Option(help: "The mode that is measured: dequantized or memory_low.")
    var mode: ExecutionMode = .memoryLow

    @Option(help: ArgumentHelp("Draw loss against size as SVG.", valueName: "file.svg"))
    var plot: String?

    @Flag(help: "Print JSON.")
    var json = false

    @Flag(help: "Leave the table of matrices out.")
    var brief = false

    @Option(help: "Threads to compute with (default: one for each performance core it may use).")
    var threads: Int?

    @Option(name: .customLong("models"), help: ArgumentHelp("Folder of models.", valueName: "dir"))
    var modelFolder: String?

    func validate() throws {
        if let plot, !plot.hasSuffix(".svg") { throw ValidationError("--plot draws SVG: the name must end in .svg.") }
    }

    func run() throws {
        if let plot { try OutputFile.demand(plot, replaces: true) }
        let folder = ModelFolder(at: modelFolder)
        let count = threads ?? WorkerPool.defaultThreads
        let source = try folder.source(against)
        let lines = try texts.map { try CalibrationTexts.read($0) } ?? CalibrationTexts.standard
        var progress = ProgressLine("evaluating")
        progress.note("running \(against)")
        let reference = try ReferenceOutputs(
            try RunnableModel(source, expanded: true, threads: count), texts: lines)
        let evaluations = try models.map { model in
            try Evaluation(
                try folder.open(model), against: source, reference, expanded: mode == .dequantized, threads: count
            ) { progress.update($0) }
        }
        progress.clear()
        if let plot { try draw(evaluations, to: plot) }
        if json { return try JSONOutput.pretty(evaluations.map { Report($0, mode: mode) }) }
        if !brief { for evaluation in evaluations { try Terminal.out(Self.matrices(evaluation)) } }
        try Terminal.out(Self.summary(evaluations))
    }

    private static func matrices(_ evaluation: Evaluation) -> String {
        var table = Table(["matrix", "n", "k", "size", "SQNR dB", "encoding"], right: [1, 2, 3, 4])
        for matrix in evaluation.matrices {
            let encoding = matrix.encoding.summary.replacingOccurrences(of: ", f16 scales", with: "")
            table.add([
                matrix.name, "\(matrix.n)", "\(matrix.k)", Human.bytes(matrix.bytes),
                matrix.sqnr.isFinite ? Human.decimal(matrix.sqnr, 1) : "exact", encoding,
            ])
        }
        return "\(evaluation.path)\n\n\(table.text)\n"
    }

    private static func summary(_ evaluations: [Evaluation]) -> String {
        switch evaluations.first?.loss {
        case .embeddings: return embeddings(evaluations)
        case .scores: return scores(evaluations)
        default: return language(evaluations)
        }
    }

    private static func language(_ evaluations: [Evaluation]) -> String {
        var table = Table(["file", "size", "KL", "same top-1", "perplexity", "reference"], right: [1, 2, 3, 4, 5])
        for evaluation in evaluations {
            guard case .language(_, let kl, let same, let own, let other) = evaluation.loss else { continue }
            table.add([
                name(evaluation.path), Human.bytes(evaluation.bytes), Human.decimal(kl, 5),
                "\(Human.decimal(same * 100, 1)) %", Human.decimal(own, 2), Human.decimal(other, 2),
            ])
        }
        return table.text
    }

    private static func embeddings(_ evaluations: [Evaluation]) -> String {
        var table = Table(["file", "size", "mean cosine", "min cosine", "texts"], right: [1, 2, 3, 4])
        for evaluation in evaluations {
            guard case .embeddings(let count, let mean, let least) = evaluation.loss else { continue }
            table.add([
                name(evaluation.path), Human.bytes(evaluation.bytes), Human.decimal(mean, 5), Human.decimal(least, 5),
                "\(count)",
            ])
        }
        return table.text
    }

    private static func scores(_ evaluations: [Evaluation]) -> String {
        var table = Table(["file", "size", "correlation", "relative error", "pairs"], right: [1, 2, 3, 4])
        for evaluation in evaluations {
            guard case .scores(let count, let correlation, let error) = evaluation.loss else { continue }
            table.add([
                name(evaluation.path), Human.bytes(evaluation.bytes), Human.decimal(correlation, 5),
                error.isFinite ? Human.decimal(error, 4) : "-", "\(count)",
            ])
        }
        return table.text
    }

    private static func name(_ path: String) -> String { String(path.split(separator: "/").last ?? "") }

    private func draw(_ evaluations: [Evaluation], to path: String) throws {
        let lossName =
            switch evaluations.first?.loss {
            case .embeddings: "1 - mean cosine"
            case .scores: "1 - correlation of scores"
            default: "mean KL, nats"
            }
        let points = evaluations.map {
            LossPlot.Point(
                label: String(Self.name($0.path).dropLast(4)), megabytes: Double($0.bytes) / 1e6, loss: $0.loss.value)
        }
        let plot = LossPlot(
            title: "Loss against size, \(Self.name(against)), \(mode.rawValue)",
            lossName: lossName, points: points)
        do {
            try plot.svg.write(toFile: path, atomically: true, encoding: .utf8)
        } catch {
            throw CommandError(.failed, "cannot write \(path): \(error.localizedDescription)")
        }
    }

    private struct Report: Encodable {
        struct Matrix: Encodable {
            let name, encoding: String
            let n, k, bytes: Int
            /// nil where nothing differs.
            let sqnr: Double?

            enum CodingKeys: String, CodingKey {
                case name, encoding, n, k, bytes
                case sqnr = "sqnr_db"
            }
        }
        let path, mode: String
        let bytes: Int
        let loss: LossReport
        let matrices: [Matrix]

        init(_ evaluation: Evaluation, mode: ExecutionMode) {
            (path, bytes, self.mode) = (evaluation.path, evaluation.bytes, mode.rawValue)
            loss = LossReport(evaluation.loss)
            matrices = evaluation.matrices.map {
                Matrix(
                    name: $0.name, encoding: $0.encoding.summary, n: $0.n, k: $0.k, bytes: $0.bytes,
                    sqnr: $0.sqnr.isFinite ? $0.sqnr : nil)
            }
        }
    }
}
