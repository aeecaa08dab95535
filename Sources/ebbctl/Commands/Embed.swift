import ArgumentParser
import Conversion
import EbbClient
import Engine

struct Embed: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "embed",
        abstract: "Turn texts into embeddings with an encoder.",
        usage: "ebbctl embed <model> [<text> | --jsonl] [<options>]",
        discussion: """
            One text as an argument, or lines {"text"} on standard input with --jsonl; lines {"embedding"} out, \
            with "truncated" where a text is longer than the model takes. ebbd \
            computes them where it runs and nothing is said about how; with --mode, --precision, --threads or --models, or \
            without a daemon, ebbctl computes them itself.

            EXAMPLES
              ebbctl embed minilm "a sentence"
              ebbctl embed minilm --jsonl < texts.jsonl > embeddings.jsonl
              ebbctl embed minilm --jsonl --mode dequantized < texts.jsonl
              ebbctl embed nomic --prompt search_query --dimensions 256 "what is a harbour?"
            """)

    @Argument(help: "A model's name, or the path of an .ebb file.")
    var model: String

    @Argument(help: "The text.")
    var text: String?

    @Flag(help: "Read JSON lines from standard input.")
    var jsonl = false

    @Option(help: "Values of each embedding, from the first on (default: all).")
    var dimensions: Int?

    @Option(
        help: "Which of the model's prompts stands before each text; \"\" for none (default: the model's own default).")
    var prompt: String?

    @Option(help: "The daemon's order: interactive, normal or background.")
    var priority: RequestPriority = .normal

    @Option(help: "Texts that are computed together.")
    var batch = 64

    @Option(help: "Execution mode: dequantized or memory_low (default: as the daemon does, else memory_low).")
    var mode: ExecutionMode?

    @Option(
        help:
            "What dequantized weights are expanded to: f16 (default), f32, or bf16 (faster where the CPU has it, less exact)."
    )
    var precision: ExpandedPrecision?

    @Option(help: "Threads to compute with (default: one for each performance core it may use).")
    var threads: Int?

    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var folder: ModelFolder

    func validate() throws {
        guard jsonl != (text != nil) else {
            throw ValidationError("Give one text, or --jsonl and lines of {\"text\"}.")
        }
        guard dimensions.map({ $0 > 0 }) ?? true else { throw ValidationError("--dimensions takes 1 or more.") }
        guard (1...4096).contains(batch) else { throw ValidationError("--batch takes 1 to 4096.") }
        try EngineOptions.check(threads: threads)
        if computesHere, daemon.socket != nil {
            throw ValidationError(
                "A daemon (--socket) has its own mode, precision, threads and folder of models: leave one or the other out."
            )
        }
    }

    private struct Result: Encodable {
        let embedding: [Float]
        /// Said of texts that were cut alone.
        let truncated: Bool?
    }
    private struct Line: Decodable { let text: String }

    func run() async throws {
        let embed = try await embedder()
        if let text { return try await Self.answer([text], embed) }
        var waiting: [String] = []
        let lines = TextLines.standardInput()
        func answer() async throws {
            try await Self.answer(waiting, embed)
            waiting = []
        }
        do {
            while let line = try lines.nextText() {
                waiting.append(try lines.decode(Line.self, line, #""text""#).text)
                if waiting.count == batch { try await answer() }
            }
        } catch let error as InputError {
            // The lines before it are right.
            try await answer()
            throw error
        }
        try await answer()
    }

    private static func answer(_ texts: [String], _ embed: Embedder) async throws {
        let found = try await embed(texts)
        for (place, embedding) in found.embeddings.enumerated() {
            let isCut = found.cut.contains(place)
            try JSONOutput.line(Result(embedding: embedding, truncated: isCut ? true : nil))
            guard isCut else { continue }
            Terminal.error("notice: \"\(Human.cut(texts[place], 40))\" is longer than the model takes, and was cut")
        }
    }

    /// Whether something is said that a daemon does not let its clients choose.
    private var computesHere: Bool { mode != nil || precision != nil || threads != nil || folder.models != nil }

    /// Embeddings, and the places of the texts that were cut.
    private typealias Embedder = ([String]) async throws -> (embeddings: [[Float]], cut: Set<Int>)

    private func embedder() async throws -> Embedder {
        if !computesHere, let client = try await daemon.client(for: model) {
            return { texts in
                var cut: Set<Int> = []
                let found = try await client.embed(
                    model, texts: texts, dimensions: dimensions, prompt: prompt, priority: priority
                ) { cut.insert($0) }
                return (found, cut)
            }
        }
        return try localEmbedder()
    }

    private func localEmbedder() throws -> Embedder {
        var options = EngineOptions()
        options.mode = mode ?? .memoryLow
        options.precision = precision ?? .f16
        options.threads = threads
        let encoder = try options.loadEncoder(model, folder)
        let prefix = try encoder.prompts.text(prompt)
        let length = encoder.config.embeddingLength
        let count = dimensions ?? length
        guard count <= length else {
            throw CommandError(
                .badInput, "\(count) dimensions are wanted, the embeddings of \(model) have \(length)")
        }
        return { texts in
            let read = texts.map { encoder.text(prefix + $0) }
            let cut = Set(read.indices.filter { read[$0].isCut })
            let found = try encoder.embed(read.map(\.tokens))
            guard count < length else { return (found, cut) }
            return (
                found.map { EncoderModel.truncated($0, to: count, normalizing: encoder.config.normalize) }, cut
            )
        }
    }
}
