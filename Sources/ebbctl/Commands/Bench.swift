import ArgumentParser
import Engine
import Glibc
import Measuring
import UnixSignals

struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure a model's speed on this machine.",
        discussion: """
            The tests are llama-bench's: pp512 reads a prompt of 512 tokens, tg64 generates 64 tokens from an empty context. \
            --kernels measures the integer products of every width, block size and instruction set beside this machine's limits. \
            --switching needs a running daemon that may be disturbed: it measures how a stream takes it when layers change mode. \
            Encoders embed batches of texts of equal length. Medians over the repetitions, after a warm-up.

            EXAMPLES
              ebbctl bench smollm2
              ebbctl bench smollm2 --threads 2 --mode dequantized --json
              ebbctl bench smollm2 --prompt 2048 --decode 0
              ebbctl bench minilm --batch 16 --length 128
              ebbctl bench smollm2 --switching --json
              ebbctl bench --kernels --threads 1
              ebbctl bench --limits --json
            """)

    @Argument(help: "A model's name.")
    var model: String?

    @Flag(help: "Measure the kernels by shape, without a model.")
    var kernels = false

    @Flag(help: "Measure what this machine can do at most: arithmetic and memory.")
    var limits = false

    @Flag(help: "Measure a running daemon while layers change mode.")
    var switching = false

    @Option(help: "With --switching: layers that change during one generation.")
    var flips = 1000

    @Option(help: "With --switching: switches and reactions that are timed.")
    var rounds = 20

    @Option(name: [.long, .customShort("p")], help: "Tokens of the prompt; 0 skips the test.")
    var prompt = 512

    @Option(name: [.long, .customShort("n")], help: "Tokens to generate; 0 skips the test.")
    var decode = 64

    @Option(name: [.long, .customShort("r")], help: "Repetitions.")
    var repetitions = 5

    @Option(name: [.long, .customShort("d")], help: "Tokens in the context before decode is measured.")
    var depth = 0

    @Option(help: "Sequences that are decoded together; their tokens add up.")
    var parallel = 1

    @Option(help: "Encoders: texts in a batch.")
    var batch = 16

    @Option(help: "Encoders: tokens of a text.")
    var length = 128

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var engine: EngineOptions
    @OptionGroup var folder: ModelFolder
    @OptionGroup var daemon: DaemonOptions

    func validate() throws {
        guard (1...4096).contains(batch), (1...65536).contains(length) else {
            throw ValidationError("--batch takes 1 to 4096, --length at least 1.")
        }
        guard [kernels, limits, model != nil].count(where: { $0 }) == 1 else {
            throw ValidationError("Name a model, or give --kernels or --limits.")
        }
        guard (1...1_000_000).contains(flips), (1...10_000).contains(rounds), !switching || model != nil else {
            throw ValidationError("--switching needs a model; --flips and --rounds take at least 1.")
        }
        guard (1...256).contains(parallel) else { throw ValidationError("--parallel takes 1 to 256.") }
        guard prompt >= 0, decode >= 0, depth >= 0, repetitions >= 1, prompt + decode > 0 else {
            throw ValidationError("--prompt, --decode and --depth take no negative numbers, --repetitions at least 1.")
        }
    }

    private struct Row: Encodable {
        let model, mode, isa, test: String
        let threads: Int
        let tokens_per_second, texts_per_second: Double?
        let slowest, fastest: Double
        let rates: [Double]

        var rate: Double { tokens_per_second ?? texts_per_second ?? 0 }
    }

    func run() async throws {
        if switching, let model { return try await measureSwitching(model) }
        guard let model else {
            let report = KernelReport(threads: engine.threads, json: json)
            return try limits ? report.limits() : report.run()
        }
        let isEncoder = EncoderModel.isEncoder(try folder.open(model))
        let (results, bytes) = try isEncoder ? measureEncoder(model) : measureDecoder(model)
        let isa = try Kernels.fromEnvironment().name
        let threads = engine.threads ?? WorkerPool.defaultThreads
        let rows = results.map {
            Row(
                model: model, mode: engine.mode.rawValue, isa: isa, test: $0.test,
                threads: threads, tokens_per_second: isEncoder ? nil : $0.median,
                texts_per_second: isEncoder ? $0.median : nil, slowest: $0.slowest, fastest: $0.fastest,
                rates: $0.rates)
        }
        if json { return try JSONOutput.pretty(rows) }
        let unit = isEncoder ? "texts/s" : "t/s"
        var table = Table(["model", "size", "mode", "isa", "threads", "test", unit, "range"], right: [1, 4, 6])
        for row in rows {
            table.add([
                row.model, Human.bytes(bytes), row.mode, row.isa, "\(row.threads)", row.test,
                Human.decimal(row.rate, 1),
                "\(Human.decimal(row.slowest, 0))-\(Human.decimal(row.fastest, 0))",
            ])
        }
        try Terminal.out(table.text)
    }

    private func measureSwitching(_ model: String) async throws {
        let progress = ProgressLine("bench \(model)")
        let test = SwitchingBench(
            ebb: try await daemon.connect(), model: model, flips: flips, rounds: rounds,
            decoder: { try engine.load(model, folder) })
        // Ctrl-C, too, leaves the model's mode to the governor.
        let watching = Task { [ebb = test.ebb] in
            for await _ in await UnixSignalsSequence(trapping: .sigint, .sigterm) {
                try? await ebb.setMode(model, .auto)
                EbbCtl.end(with: CancellationError())
            }
        }
        defer { watching.cancel() }
        let report = try await test.run { progress.note($0) }
        progress.clear()
        if json { return try JSONOutput.pretty(report) }
        try Terminal.out(report.text)
    }

    private func measureDecoder(_ model: String) throws -> ([SpeedTest.Result], Int) {
        let loaded = try engine.load(model, folder, sequences: max(2, parallel))
        let progress = ProgressLine("bench \(model)")
        defer { progress.clear() }
        let test = SpeedTest(
            promptTokens: prompt, decodeTokens: decode, repetitions: repetitions, depth: depth,
            parallel: parallel)
        return (try test.run(loaded) { progress.note($0) }, loaded.mappedBytes)
    }

    private func measureEncoder(_ model: String) throws -> ([SpeedTest.Result], Int) {
        let loaded = try engine.loadEncoder(model, folder)
        let progress = ProgressLine("bench \(model)")
        defer { progress.clear() }
        let test = EncoderSpeedTest(batch: batch, length: length, repetitions: repetitions)
        return ([try test.run(loaded) { progress.note($0) }], loaded.mappedBytes)
    }
}
