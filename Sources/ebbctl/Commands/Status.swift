import ArgumentParser
import EbbClient
import EbbProtocol

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show who is loaded, in which mode, and what memory it really takes.",
        discussion: """
            EXAMPLES
              ebbctl status
              ebbctl status --json
            """)

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let status = try await daemon.connect().status()
        if json { return Terminal.out(try status.jsonString() + "\n") }
        Terminal.out(Self.text(status))
    }

    static func text(_ status: EbbStatus) -> String {
        let seconds = status.uptimeMs / 1000
        var out =
            "\(status.server), pid \(status.pid), up \(seconds / 3600) h \(seconds / 60 % 60) min \(seconds % 60) s, "
        out += "\(status.isa), \(status.threads) threads\n"
        out += "pressure  \(status.level.name)\n"
        for source in status.sources { out += "          \(source.name): \(source.reading)\n" }
        out +=
            "memory    \(Human.bytes(Int(status.anonymousBytes))) anonymous, \(Human.bytes(Int(status.fileBytes))) of files; "
        out += "\(Human.bytes(Int(status.availableBytes))) available\n"
        out += "clients   \(status.connections) connected, \(status.activeRequests) requests under way\n\n"
        guard !status.models.isEmpty else { return out + "no model is loaded; the first request loads one\n" }
        var table = Table(
            ["model", "mode", "expanded", "resident", "KV", "requests", "prefill", "decode"], right: [2, 3, 4, 5, 6, 7])
        for model in status.models {
            table.add([
                model.name, model.mode.name,
                "\(model.expandedLayers)/\(model.layers) \(Human.bytes(Int(model.expandedBytes)))",
                Human.bytes(Int(model.residentBytes)), Human.bytes(Int(model.kvBytes)), "\(model.activeRequests)",
                rate(model.prefillRate), rate(model.decodeRate),
            ])
        }
        return out + table.text
    }

    private static func rate(_ rate: Float) -> String { rate > 0 ? "\(Human.decimal(Double(rate), 0)) t/s" : "-" }
}

struct Models: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the daemon's models.",
        discussion: """
            EXAMPLES
              ebbctl models
              ebbctl models --json
            """)

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let models = try await daemon.connect().models()
        if json {
            return Terminal.out("[" + (try models.map { try $0.jsonString() }.joined(separator: ",\n ")) + "]\n")
        }
        guard !models.isEmpty else { return Terminal.out("no model yet: ebbctl import FILE.gguf --name NAME\n") }
        var table = Table(["model", "size", "architecture", "state"], right: [1])
        for model in models {
            let state = model.error.isEmpty ? (model.loaded ? "loaded" : "on disk") : "unusable: \(model.error)"
            table.add([model.name, Human.bytes(Int(model.fileBytes)), model.architecture, state])
        }
        Terminal.out(table.text)
    }
}

struct Load: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Load a model ahead of its first use.",
        discussion: """
            EXAMPLES
              ebbctl load smollm2
            """)

    @Argument(help: "A model's name.")
    var model: String

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let status = try await daemon.connect().load(model)
        if json { return Terminal.out(try status.jsonString() + "\n") }
        Terminal.out(
            "loaded \(model): \(Human.bytes(Int(status.mappedBytes))) mapped, context \(status.contextTokens) tokens\n")
    }
}

struct Unload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Unload a model; its running requests fail.",
        discussion: """
            EXAMPLES
              ebbctl unload smollm2
            """)

    @Argument(help: "A model's name.")
    var model: String

    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        try await daemon.connect().unload(model)
        Terminal.out("unloaded \(model)\n")
    }
}

struct SetMode: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mode",
        abstract: "Choose how a model is run.",
        discussion: """
            auto leaves it to the governor, layer by layer, by the memory that there is. dequantized and memory_low pin all \
            layers. Running requests go on; the command waits until the last layer has followed.

            EXAMPLES
              ebbctl mode smollm2 memory_low
              ebbctl mode smollm2 auto
            """)

    @Argument(help: "A model's name.")
    var model: String

    @Argument(help: "auto, dequantized or memory_low.")
    var mode: WishedMode

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let ebb = try await daemon.connect()
        try await ebb.setMode(model, mode.value)
        let status = try await wait(ebb)
        if json { return Terminal.out(try status.jsonString() + "\n") }
        Terminal.out(
            "\(model): \(mode.rawValue), \(status.expandedLayers) of \(status.layers) layers expanded "
                + "(\(Human.bytes(Int(status.expandedBytes))))\n")
    }

    /// Waits until a pinned model's layers have followed.
    private func wait(_ ebb: EbbClient) async throws -> EbbModelStatus {
        let progress = ProgressLine("switching \(model)")
        defer { progress.clear() }
        for _ in 0..<3000 {
            guard let status = try await ebb.status().models.first(where: { $0.name == model }) else { break }
            let goal: UInt32? = mode == .auto ? nil : mode == .dequantized ? status.layers : 0
            guard let goal, status.expandedLayers != goal else { return status }
            progress.note("\(status.expandedLayers) of \(status.layers) layers expanded")
            try await Task.sleep(for: .milliseconds(20))
        }
        throw ValidationError("\(model) has not followed within a minute; see ebbctl status.")
    }
}

enum WishedMode: String, ExpressibleByArgument, CaseIterable {
    case auto, dequantized
    case memoryLow = "memory_low"

    var value: EbbMode {
        switch self {
        case .auto: .auto
        case .dequantized: .dequantized
        case .memoryLow: .memoryLow
        }
    }
}

extension EbbMode {
    var name: String {
        switch self {
        case .auto: "auto"
        case .dequantized: "dequantized"
        case .memoryLow: "memory_low"
        case .UNRECOGNIZED(let code): "mode \(code)"
        }
    }
}

extension EbbLevel {
    var name: String {
        switch self {
        case .nominal: "nominal"
        case .warning: "warning"
        case .critical: "critical"
        case .UNRECOGNIZED(let code): "level \(code)"
        }
    }
}
