import ArgumentParser
import Engine
import Glibc

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure prefill and decode speed of a model on this machine.",
        discussion: """
            The tests are llama-bench's: pp512 reads a prompt of 512 tokens, tg64 generates 64 tokens from an empty context. \
            Medians over the repetitions, after a warm-up.

            EXAMPLES
              ebbctl bench smollm2
              ebbctl bench smollm2 --threads 2 --mode dequantized --json
              ebbctl bench smollm2 --prompt 2048 --decode 0
            """)

    @Argument(help: "A model's name.")
    var model: String

    @Option(name: [.long, .customShort("p")], help: "Tokens of the prompt; 0 skips the test.")
    var prompt = 512

    @Option(name: [.long, .customShort("n")], help: "Tokens to generate; 0 skips the test.")
    var decode = 64

    @Option(name: [.long, .customShort("r")], help: "Repetitions.")
    var repetitions = 5

    @Option(name: [.long, .customShort("d")], help: "Tokens in the context before decode is measured.")
    var depth = 0

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var engine: EngineOptions
    @OptionGroup var folder: ModelFolder

    func validate() throws {
        guard prompt >= 0, decode >= 0, depth >= 0, repetitions >= 1, prompt + decode > 0 else {
            throw ValidationError("--prompt, --decode and --depth take no negative numbers, --repetitions at least 1.")
        }
    }

    private struct Row: Encodable {
        let model, mode, isa, test: String
        let threads: Int
        let tokens_per_second, slowest, fastest: Double
        let rates: [Double]
    }

    func run() throws {
        let loaded = try engine.load(model, folder)
        let threads = engine.threads ?? sysconf(Int32(_SC_NPROCESSORS_ONLN))
        let isa = try Kernels.fromEnvironment().name
        let progress = ProgressLine("bench \(model)")
        let test = SpeedTest(promptTokens: prompt, decodeTokens: decode, repetitions: repetitions, depth: depth)
        let results = try test.run(loaded) { progress.note($0) }
        progress.clear()
        let rows = results.map {
            Row(
                model: model, mode: engine.mode.rawValue, isa: isa, test: $0.test, threads: threads,
                tokens_per_second: $0.median, slowest: $0.slowest, fastest: $0.fastest, rates: $0.rates)
        }
        if json { return try JSONOutput.pretty(rows) }
        var table = Table(["model", "size", "mode", "isa", "threads", "test", "t/s", "range"], right: [1, 4, 6])
        for row in rows {
            table.add([
                row.model, Human.bytes(loaded.mappedBytes), row.mode, row.isa, "\(row.threads)", row.test,
                Human.decimal(row.tokens_per_second, 1),
                "\(Human.decimal(row.slowest, 0))-\(Human.decimal(row.fastest, 0))",
            ])
        }
        Terminal.out(table.text)
    }
}
