import ArgumentParser
import Conversion
import Engine
import Measuring

struct ScoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "score",
        abstract: "Run texts through a model and print what it predicts: for evaluation and scripts.",
        usage: "ebbctl score <model> --jsonl [<options>]",
        discussion: """
            Lines {"text", "add_special", "parse_special"} or {"ids"} in; lines {"ids", "argmax", "mean_nll", "last_top", \
            "last_logsumexp", "greedy"} out. --logits also writes the logits of all positions, in order, as a NumPy file \
            (float32, [positions, vocabulary]).

            EXAMPLES
              ebbctl score smollm2 --jsonl --mode dequantized < texts.jsonl
              ebbctl score smollm2 --jsonl --logits logits.npy < texts.jsonl > scores.jsonl
              ebbctl score smollm2 --jsonl --adapter summary=0.5 < texts.jsonl
            """)

    @Argument(help: "A model's name.")
    var model: String

    @Flag(help: "Read JSON lines from standard input (the only form there is).")
    var jsonl = false

    @Option(help: "Logits of the last position to print, the largest first.")
    var top = 20

    @Option(help: "Tokens to continue each text by, greedily.")
    var greedy = 0

    @Option(help: ArgumentHelp("Write all positions' logits to a NumPy file.", valueName: "file.npy"))
    var logits: String?

    @OptionGroup var adapters: AdapterOptions
    @OptionGroup var engine: EngineOptions
    @OptionGroup var folder: ModelFolder

    func validate() throws {
        if !jsonl { throw ValidationError("score reads JSON lines from standard input: add --jsonl.") }
        if top < 0 || greedy < 0 { throw ValidationError("--top and --greedy take no negative numbers.") }
    }

    private struct Result: Encodable {
        let ids, argmax: [Int32]
        let mean_nll: Double?
        let last_top: [[Double]]
        let last_logsumexp: Double
        let greedy: [Int32]
    }

    func run() throws {
        if let logits { try OutputFile.demand(logits, replaces: true) }
        let model = try engine.load(model, folder)
        let uses = try adapters.uses(of: model, folder)
        let writer = try logits.map { try NPYWriter(path: $0) }
        let lines = TextLines.standardInput()
        while let line = try lines.nextText() {
            let ids = try TextLine(line, of: lines).tokens(model.tokenizer)
            let score: Score
            do {
                score = try model.score(ids, top: top, greedy: greedy, adapters: uses) { try writer?.append($0) }
            } catch let error as EngineError where ExitStatus(of: error) == .badInput {
                throw lines.wrong(line.number, "cannot be scored: \(error)")
            }
            try JSONOutput.line(
                Result(
                    ids: score.ids, argmax: score.argmax, mean_nll: score.meanNLL,
                    last_top: score.lastTop.map { [Double($0.id), Double($0.logit)] },
                    last_logsumexp: score.lastLogSumExp,
                    greedy: score.greedy))
        }
        try writer?.finish()
    }
}

extension AdapterOptions {
    /// The adapters, loaded for a model, in the order of their names, as the daemon applies them.
    /// - Throws: an error for a name that there is not, or an adapter that does not fit the model.
    fileprivate func uses(of model: DecoderModel, _ folder: ModelFolder) throws -> [AdapterUse] {
        try list.filter { $0.strength != 0 }.sorted { $0.name < $1.name }.map { wanted in
            let adapter = try Adapter(try folder.adapter(wanted.name), for: model)
            return AdapterUse(adapter: adapter, strength: wanted.strength)
        }
    }
}
