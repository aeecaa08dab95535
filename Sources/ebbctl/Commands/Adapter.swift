import ArgumentParser
import Engine
import Glibc
import ModelFormat

struct AdapterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "adapter",
        abstract: "Import LoRA adapters, and see which there are.",
        discussion: """
            An adapter changes how a model answers, for the requests that name it (ebbctl run --adapter); the model's weights \
            stay as they are, so that several adapters of one model take little memory. It is kept beside the models, in the \
            folder adapters.

            EXAMPLES
              ebbctl adapter import summary.gguf --model smollm2
              ebbctl adapter list
              ebbctl run smollm2 "Summarize: ..." --adapter summary=0.8
            """,
        subcommands: [ImportAdapter.self, ListAdapters.self, ShowAdapter.self, RemoveAdapter.self])
}

/// What there is to say of an adapter.
private struct AdapterReport: Encodable {
    let name, path, base, architecture: String
    let rank, weights, bytes: Int

    /// - Throws: an error for a file that is no adapter.
    init(_ name: String, _ file: EbbFile) throws {
        guard let base = Adapter.base(file) else {
            throw CommandError(.badInput, "\(file.path) is no adapter: ebbctl adapter import makes one")
        }
        (self.name, path, self.base, bytes) = (name, file.path, base, file.byteCount)
        architecture = file.metadata.string("general.architecture") ?? ""
        rank = file.metadata.integer("adapter.rank") ?? 0
        weights = file.names.count / 2
    }
}

extension ModelFolder {
    /// An adapter of the folder, by its name.
    func adapter(_ name: String) throws -> EbbFile {
        do {
            return try store.adapters.open(name)
        } catch let error as FormatError {
            if let path = try? store.adapters.path(of: name), access(path, F_OK) == 0 { throw error }
            throw CommandError(.badInput, error.description)
        }
    }
}

private struct ImportAdapter: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Copy an adapter into the model folder, for one of its models.",
        discussion: """
            Takes a GGUF file of llama.cpp's kind, or a folder as PEFT saves it (adapter_config.json, \
            adapter_model.safetensors). Whether it fits the model is checked by names and shapes; what Ebb would leave out \
            (DoRA, biases, embeddings, experts) is refused by name.

            EXAMPLES
              ebbctl adapter import summary.gguf --model smollm2
              ebbctl adapter import ./outputs/checkpoint-500 --model qwen2 --name sql --force
            """)

    @Argument(help: "A GGUF file, or a folder.", completion: .file(extensions: ["gguf"]))
    var source: String

    @Option(help: "The model that it was trained for, by its name here.")
    var model: String

    @Option(help: "Name of the adapter (default: the file's name).")
    var name: String?

    @Flag(help: "Replace an adapter of that name.")
    var force = false

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var folder: ModelFolder

    func run() throws {
        let name = name ?? Import.defaultName(source)
        let store = folder.store.adapters
        let destination = try store.path(of: name)
        let base = try folder.open(model)
        let adapter = try AdapterSource(path: source, for: base, named: model)
        if !force, access(destination, F_OK) == 0 {
            throw CommandError(
                .badInput, "\(destination) exists already; --force replaces it, --name gives another name")
        }
        try store.create()
        store.removeLeftovers()
        var progress = ProgressLine("importing \(name)")
        try adapter.write(to: destination) { progress.update($0) }
        progress.clear()
        let report = try AdapterReport(name, try EbbFile(path: destination))
        if json { return try JSONOutput.line(report) }
        try Terminal.out(
            """
            imported \(name): rank \(report.rank) for \(report.weights) weights of \(model), \(Human.bytes(report.bytes))
            next: ebbctl run \(model) "Why is the sky blue?" --adapter \(name)

            """)
    }
}

private struct ListAdapters: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the adapters of the model folder.",
        discussion: """
            EXAMPLES
              ebbctl adapter list
              ebbctl adapter list --json
            """)

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var folder: ModelFolder

    func run() throws {
        let store = folder.store.adapters
        var (reports, problems): ([AdapterReport], [String]) = ([], [])
        for name in try store.names() {
            do { reports.append(try AdapterReport(name, try store.open(name))) } catch { problems.append("\(error)") }
        }
        for problem in problems { Terminal.error("notice: \(problem)") }
        if json { return try JSONOutput.line(reports) }
        guard !reports.isEmpty else {
            return try Terminal.out("no adapter yet: ebbctl adapter import FILE.gguf --model NAME\n")
        }
        var table = Table(["adapter", "model", "family", "rank", "weights", "size"], right: [3, 4, 5])
        for report in reports {
            table.add([
                Human.cut(report.name, 26), Human.cut(report.base, 20), Human.cut(report.architecture, 9),
                "\(report.rank)",
                "\(report.weights)", Human.bytes(report.bytes),
            ])
        }
        try Terminal.out(table.text)
    }
}

private struct ShowAdapter: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show what an adapter changes.",
        discussion: """
            EXAMPLES
              ebbctl adapter show summary
              ebbctl adapter show summary --json
            """)

    @Argument(help: "An adapter's name.")
    var name: String

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var folder: ModelFolder

    private struct Report: Encodable {
        struct Weight: Encodable {
            let name: String
            let n, k, rank: Int
        }
        let adapter: AdapterReport
        let weights: [Weight]
    }

    func run() throws {
        let file = try folder.adapter(name)
        let report = try AdapterReport(name, file)
        let weights = file.shapes.filter { $0.name.hasSuffix(AdapterSource.suffixA) }.map { a in
            let weight = String(a.name.dropLast(AdapterSource.suffixA.count))
            let n = file.tensors[weight + AdapterSource.suffixB]?.shape.n ?? 0
            return Report.Weight(name: weight, n: n, k: a.k, rank: a.n)
        }
        if json { return try JSONOutput.pretty(Report(adapter: report, weights: weights)) }
        try Terminal.out(
            "\(report.path.printable)  \(Human.bytes(report.bytes))\n"
                + Human.wrapped("for \(report.base) (\(report.architecture)), rank \(report.rank)") + "\n\n")
        var table = Table(["weight", "n", "k", "rank"], right: [1, 2, 3])
        for weight in weights { table.add([weight.name, "\(weight.n)", "\(weight.k)", "\(weight.rank)"]) }
        try Terminal.out(table.text)
    }
}

private struct RemoveAdapter: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove",
        abstract: "Remove an adapter from the model folder.",
        discussion: """
            EXAMPLES
              ebbctl adapter remove summary
            """)

    @Argument(help: "An adapter's name.")
    var name: String

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var folder: ModelFolder

    func run() throws {
        let report = try AdapterReport(name, try folder.adapter(name))
        guard unlink(report.path) == 0 else { throw FormatError.system("cannot remove \(report.path)") }
        if json { return try JSONOutput.line(report) }
        try Terminal.out("removed \(name), \(Human.bytes(report.bytes))\n")
    }
}
