import ArgumentParser
import EbbProtocol
import Engine
import ModelFormat

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Show what a model file holds: metadata and tensors.",
        discussion: """
            EXAMPLES
              ebbctl inspect smollm2
              ebbctl inspect ./model.gguf
              ebbctl inspect smollm2 --json
            """)

    @Argument(help: "A model's name, or the path of an .ebb or .gguf file.")
    var model: String

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var folder: ModelFolder

    private struct Report: Encodable {
        struct Tensor: Encodable {
            let name, encoding: String
            let n, k, bytes: Int
        }
        let path: String
        let bytes: Int
        let architecture, use: String
        let parameters, contextLength: Int
        let bits: [Int]
        let hasChatTemplate: Bool
        let metadata: [String: String]
        let tensors: [Tensor]
    }

    func run() throws {
        let report: Report
        if model.hasSuffix(".gguf") {
            let file = try GGUFFile(path: model)
            report = Self.report(file, bytes: file.byteCount)
        } else {
            let file = try folder.open(model)
            report = Self.report(file, bytes: file.byteCount)
        }
        if json { return try JSONOutput.pretty(report) }
        try Terminal.out(Self.heading(report))
        for (key, value) in report.metadata.sorted(by: { $0.key < $1.key }) {
            let line = "\(Human.padded(key.printable, 42)) \(value.printable)"
            try Terminal.out((line.count > 80 ? line.prefix(79) + "…" : line) + "\n")
        }
        var table = Table(["tensor", "n", "k", "size", "encoding"], right: [1, 2, 3])
        for tensor in report.tensors {
            table.add([tensor.name, "\(tensor.n)", "\(tensor.k)", Human.bytes(tensor.bytes), tensor.encoding])
        }
        try Terminal.out("\n" + table.text)
    }

    private static func report(_ file: some ModelDescription, bytes: Int) -> Report {
        var metadata: [String: String] = [:]
        for key in file.metadata.keys { metadata[key] = file.metadata[key].map(text) }
        let tensors = file.shapes.map { shape in
            let encoding = if case .matrix(let encoding) = shape.layout { encoding.summary } else { "f32 vector" }
            return Report.Tensor(
                name: shape.name, encoding: encoding, n: shape.n, k: shape.k, bytes: shape.byteCount ?? 0)
        }
        let summary = ModelSummary(file)
        let use = AdapterSource.isAdapter(file.metadata) ? AdapterSource.type : summary.use.rawValue
        return Report(
            path: file.path, bytes: bytes, architecture: summary.architecture, use: use,
            parameters: summary.parameters, contextLength: summary.contextLength, bits: summary.bits,
            hasChatTemplate: summary.hasTemplate, metadata: metadata, tensors: tensors)
    }

    private static func heading(_ report: Report) -> String {
        let start = "\(report.path.printable)  \(Human.bytes(report.bytes))\n"
        guard report.use != AdapterSource.type else {
            return start + Human.wrapped("a LoRA adapter of \(report.architecture) models") + "\n\n"
        }
        let what =
            switch ModelSummary.Use(rawValue: report.use) {
            case .embed: "makes embeddings"
            case .rerank: "reranks documents"
            case .generate, nil: "generates text, \(report.hasChatTemplate ? "with a" : "without a") chat template"
            }
        let widths = report.bits.map { "\($0)" }.joined(separator: ", ")
        let summary =
            "\(report.architecture), \(Human.count(report.parameters)) weights in \(widths) bits, context "
            + "\(report.contextLength) tokens; \(what)"
        return "\(start)\(Human.wrapped(summary))\n\n"
    }

    private static func text(_ value: MetadataValue) -> String {
        switch value {
        case .unsigned(let v): "\(v)"
        case .signed(let v): "\(v)"
        case .float(let v): "\(Float(v))"
        case .bool(let v): "\(v)"
        case .string(let v): v
        case .array(let v): "[\(v.count)]"
        }
    }
}

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Read a model's weights, compare their checksums, and look for NaN and infinity.",
        discussion: """
            EXAMPLES
              ebbctl verify smollm2
              ebbctl verify /var/lib/ebb/models/adapters/summary.ebb
            """)

    @Argument(help: "A model's name, or the path of an .ebb file.")
    var model: String

    @OptionGroup var folder: ModelFolder

    func run() throws {
        let file = try folder.open(model)
        var progress = ProgressLine("verifying \(model)")
        try file.verify { progress.update($0) }
        if !AdapterSource.isAdapter(file.metadata) { try ModelFamilies.check(file) }
        progress.clear()
        try Terminal.out("\(model.printable): all \(file.names.count) tensors are intact\n")
    }
}
