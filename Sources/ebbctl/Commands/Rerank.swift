import ArgumentParser
import EbbClient
import EbbProtocol
import Engine

struct Rerank: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rerank",
        abstract: "Order texts by how well they answer a query.",
        usage: "ebbctl rerank <model> <query> <document> ... [<options>]",
        discussion: """
            The model is a reranker: an encoder with a classification head of one score. The best document comes first, with \
            its score (a logit: only order and differences mean something) and its place among the arguments, from 0. ebbd \
            computes the scores where it runs; without a daemon, or with --models, ebbctl computes them itself.

            EXAMPLES
              ebbctl rerank bge "when do ferries leave?" "A ferry leaves at dawn." "The router has a small button."
              ebbctl rerank bge --json --top 3 "a query" "one text" "another"
            """)

    @Argument(help: "A model's name, or the path of an .ebb file.")
    var model: String

    @Argument(help: "What the documents are to answer.")
    var query: String

    @Argument(help: "The documents.")
    var documents: [String]

    @Option(help: "How many of the best documents are printed (default: all).")
    var top: Int?

    @Flag(help: "Print JSON lines {\"index\", \"score\", \"document\"}, with \"truncated\" where one was cut.")
    var json = false

    @Option(help: "The daemon's order: interactive, normal or background.")
    var priority: RequestPriority = .normal

    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var folder: ModelFolder

    func validate() throws {
        guard top.map({ $0 > 0 }) ?? true else { throw ValidationError("--top takes 1 or more.") }
        if folder.models != nil, daemon.socket != nil {
            throw ValidationError("A daemon (--socket) has its own folder of models: leave one or the other out.")
        }
    }

    private struct Result: Encodable {
        let index: Int
        let score: Float
        let document: String
        /// Said of documents for which a text was cut alone.
        let truncated: Bool?
    }

    func run() async throws {
        let (scores, cut) = try await scores()
        let results = zip(documents, scores).enumerated().map {
            Result(
                index: $0.offset, score: $0.element.1, document: $0.element.0,
                truncated: cut.contains($0.offset) ? true : nil)
        }
        // Equal scores stay in their order.
        let ordered = results.sorted { ($0.score, $1.index) > ($1.score, $0.index) }
        for place in cut.sorted() {
            Terminal.error(
                "notice: document \(place) and the query are longer than the model takes, and the longer was cut")
        }
        for result in ordered.prefix(top ?? ordered.count) {
            if json {
                try JSONOutput.line(result)
            } else {
                try Terminal.out(
                    "\(Human.decimal(Double(result.score), 4))\t\(result.index)\t\(result.document.printable)\n")
            }
        }
    }

    /// The scores, and the places of the documents for which something was cut.
    private func scores() async throws -> (scores: [Float], cut: Set<Int>) {
        if folder.models == nil, let client = try await daemon.client(for: model) {
            var cut: Set<Int> = []
            let found = try await client.rerank(model, query: query, documents: documents, priority: priority) {
                cut.insert($0)
            }
            return (found, cut)
        }
        var options = EngineOptions()
        (options.mode, options.precision, options.threads) = (.memoryLow, .f16, nil)
        let encoder = try options.loadEncoder(model, folder)
        let pairs = documents.map { encoder.pair(query, $0) }
        return (try encoder.score(pairs), Set(pairs.indices.filter { pairs[$0].isCut }))
    }
}
