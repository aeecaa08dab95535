import ArgumentParser
import Conversion
import Engine
import Foundation
import Glibc
import ModelFormat

struct Advise: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "advise",
        abstract: "Say which quantization suits a model, and the command that makes it.",
        usage: "ebbctl advise <source> --memory <2G> [<options>]",
        discussion: """
            Makes each candidate in a temporary folder and measures it on this machine: its size, its loss on two dozen \
            texts, its speed in both modes. Rules then choose: size alone, 8 bit or fewer while it is useful; size and \
            speed, 4 bit in memory_low; accuracy, HQQ or GPTQ, or f16 where half the size is enough; with calibration \
            texts at hand, GPTQ and full INT8 are tried too.

            EXAMPLES
              ebbctl advise all-MiniLM-L6-v2/ --memory 2G
              ebbctl advise minilm --memory 20MB --priority accuracy --calibration lines.txt
              ebbctl advise model.gguf --memory 512M --priority speed --json
            """)

    @Argument(help: "What to quantize: a path, or a model's name.")
    var source: String

    @Option(help: ArgumentHelp("Memory that the weights may take.", valueName: "2G"))
    var memory: ByteSize

    @Option(help: "What counts most: size, accuracy or speed (default: a balance of size and speed).")
    var priority: Advice.Priority?

    @Option(help: ArgumentHelp("Typical texts, one a line: GPTQ and full INT8 are tried too.", valueName: "file"))
    var calibration: String?

    @Option(help: "Threads to compute with (default: one for each performance core it may use).")
    var threads: Int?

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var folder: ModelFolder

    private struct Report: Encodable {
        struct Candidate: Encodable {
            let name, command: String
            let file_bytes, memory_low_bytes, dequantized_bytes: Int
            let loss: LossReport
            let memory_low_rate, dequantized_rate: Double
            let decode_rate: Double?
            let useful, fits, chosen: Bool
        }
        let command: String
        let reasons: [String]
        let rate_unit: String
        let candidates: [Candidate]
    }

    func run() throws {
        let model = try folder.source(source)
        let texts = try calibration.map { try CalibrationTexts.read($0) }
        let progress = ProgressLine("advising")
        let advice = try Advice(
            model, memory: memory.bytes, priority: priority, calibration: texts,
            threads: max(1, threads ?? WorkerPool.defaultThreads)
        ) { progress.note($0) }
        progress.clear()
        if json { return try JSONOutput.pretty(report(advice)) }
        try Terminal.out(table(advice))
        for reason in advice.reasons { try Terminal.out("- \(reason)\n") }
        try Terminal.out("\n\(command(advice.choice))\n")
    }

    /// The exact command; full INT8 takes two.
    private func command(_ candidate: Advice.Candidate) -> String {
        let output = Self.output(source, candidate.name)
        let place = folder.models.map { " --models \(Self.quoted($0))" } ?? ""
        let file = calibration.map(Self.quoted) ?? ""
        let quantize =
            "ebbctl quantize \(Self.quoted(source)) -o \(output).ebb "
            + candidate.options.replacingOccurrences(of: "FILE", with: file)
            .replacingOccurrences(of: "calibration.json", with: "\(output).calibration.json") + place
        guard candidate.options.contains("--full-int8") else { return quantize }
        return "ebbctl calibrate \(Self.quoted(source)) --data \(file) -o \(output).calibration.json\(place) && "
            + quantize
    }

    private static func quoted(_ text: String) -> String {
        let plain = text.allSatisfy { $0.isLetter || $0.isNumber || "/._-+".contains($0) }
        return plain ? text : "'" + text.replacingOccurrences(of: "'", with: "'\\''") + "'"
    }

    /// `minilm-4bit-block32-hqq`.
    private static func output(_ source: String, _ candidate: String) -> String {
        var base = String(source.split(separator: "/").last ?? "model")
        for suffix in [".gguf", ".ebb"] where base.hasSuffix(suffix) { base = String(base.dropLast(suffix.count)) }
        let kind = candidate.lowercased().replacingOccurrences(of: ", ", with: "-").replacingOccurrences(
            of: " ", with: "")
        return quoted("\(base)-\(kind)")
    }

    private func table(_ advice: Advice) -> String {
        let isEncoder = advice.choice.decodeRate == nil
        let likeness = if case .scores = advice.choice.loss { "correlation" } else { "cosine" }
        var table = Table(
            [
                "", "candidate", "file", "RAM (x)", isEncoder ? likeness : "KL", isEncoder ? "texts/s" : "pp t/s",
                "(x)", isEncoder ? "" : "tg t/s",
            ], right: [2, 3, 4, 5, 6, 7])
        for candidate in advice.candidates {
            let loss =
                switch candidate.loss {
                case .embeddings(_, let mean, _): Human.decimal(mean, 4)
                case .scores(_, let correlation, _): Human.decimal(correlation, 4)
                case .language(_, let kl, _, _, _): Human.decimal(kl, 4)
                }
            table.add([
                candidate.name == advice.choice.name ? "*" : candidate.isUseless || !candidate.fits ? "-" : " ",
                candidate.name, Human.bytes(candidate.fileBytes), Human.bytes(candidate.dequantizedBytes), loss,
                Human.decimal(candidate.memoryLowRate, 0), Human.decimal(candidate.dequantizedRate, 0),
                candidate.decodeRate.map { Human.decimal($0, 0) } ?? "",
            ])
        }
        return table.text + "* chosen, - useless or too large, (x) expanded, in dequantized mode\n\n"
    }

    private func report(_ advice: Advice) -> Report {
        Report(
            command: command(advice.choice), reasons: advice.reasons,
            rate_unit: advice.choice.decodeRate == nil ? "texts" : "tokens",
            candidates: advice.candidates.map {
                Report.Candidate(
                    name: $0.name, command: command($0), file_bytes: $0.fileBytes, memory_low_bytes: $0.memoryLowBytes,
                    dequantized_bytes: $0.dequantizedBytes, loss: LossReport($0.loss),
                    memory_low_rate: $0.memoryLowRate, dequantized_rate: $0.dequantizedRate,
                    decode_rate: $0.decodeRate, useful: !$0.isUseless, fits: $0.fits,
                    chosen: $0.name == advice.choice.name)
            })
    }
}

extension Advice.Priority: ExpressibleByArgument {}
