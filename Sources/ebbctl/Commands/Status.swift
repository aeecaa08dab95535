import ArgumentParser
import EbbClient
import EbbProtocol

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
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
        for source in status.sources {
            out += Human.wrapped("\(source.name): \(source.reading)", indent: 10) + "\n"
        }
        out += memory(status)
        out += "clients   \(status.connections) connected, \(status.activeRequests) requests under way\n\n"
        guard !status.models.isEmpty else { return out + "no model is loaded; the first request loads one\n" }
        var table = Table(
            ["model", "mode", "expanded", "mapped", "KV", "buffers", "req", "prefill", "decode"],
            right: [2, 3, 4, 5, 6, 7, 8])
        for model in status.models {
            table.add([
                model.name, model.parked ? "parked" : model.mode.name,
                "\(model.expandedLayers)/\(model.layers) \(Human.bytes(Int(model.expandedBytes)))",
                Human.bytes(Int(model.residentBytes)), Human.bytes(Int(model.kvBytes)),
                Human.bytes(Int(model.scratchBytes)), "\(model.activeRequests)", Human.rate(Double(model.prefillRate)),
                Human.rate(Double(model.decodeRate)),
            ])
        }
        out += table.text
        for model in status.models { out += Human.wrapped("\(model.name): \(choice(model))", indent: 2) + "\n" }
        return out
    }

    private static func memory(_ status: EbbStatus) -> String {
        func human(_ bytes: UInt64) -> String { Human.bytes(Int(clamping: bytes)) }
        let all = status.anonymousBytes + status.fileBytes
        return
            "memory    \(human(all)) in RAM: \(human(status.anonymousBytes)) anonymous, \(human(status.fileBytes)) of files; "
            + "\(human(status.ownBytes)) are\n          the daemon's own. Budget \(human(status.budgetBytes)), reserve "
            + "\(human(status.reserveBytes)); \(human(status.availableBytes)) available\n"
    }

    /// What the governor does with a model, and what that costs.
    private static func choice(_ model: EbbModelStatus) -> String {
        var text = "prefers \(model.preference.name)"
        if model.priority != 0 { text += ", priority \(model.priority)" }
        if model.kvBlocksInt8 > 0 { text += ", \(model.kvBlocksInt8) of \(model.kvBlocks) KV blocks int8" }
        if model.prefixes > 0 {
            text += ", conversations kept: \(model.prefixes) (\(Human.bytes(Int(model.prefixBytes))))"
        }
        guard model.hasCosts else { return text }
        return text + "; " + model.costs.sentence(expanded: model.expandedLayers, of: model.layers)
    }
}

extension EbbModeCosts {
    /// What the present choice costs, in speed and in loss.
    func sentence(expanded: UInt32, of layers: UInt32) -> String {
        let loss = Human.decimal(Double(loss), 4)
        if expanded == layers, layers > 0 {
            return "dequantized: exact; memory_low would run \(Self.speed(1 / decodeRatio)) in decode, "
                + "\(Self.speed(1 / prefillRatio)) in prefill, at a loss of \(loss)"
        }
        let what = expanded == 0 ? "memory_low" : "\(expanded) of \(layers) layers exact; memory_low"
        return "\(what): a loss of \(loss); dequantized would run \(Self.speed(decodeRatio)) in decode, "
            + "\(Self.speed(prefillRatio)) in prefill"
    }

    private static func speed(_ ratio: Float) -> String { "\(Human.decimal(Double(ratio), 2)) x as fast" }
}

struct Models: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "models",
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
        Terminal.out(Self.text(models))
    }

    /// Speeds are of dequantized over memory_low, the loss is that of memory_low.
    private static func text(_ models: [EbbModel]) -> String {
        var table = Table(
            ["model", "size", "architecture", "state", "prefers", "decode", "prefill", "loss"], right: [1, 5, 6, 7])
        for model in models {
            let state = model.error.isEmpty ? (model.loaded ? "loaded" : "on disk") : "unusable: \(model.error)"
            let costs = model.hasCosts ? model.costs : nil
            func ratio(_ value: Float?) -> String { value.map { "\(Human.decimal(Double($0), 2)) x" } ?? "-" }
            table.add([
                model.name, Human.bytes(Int(model.fileBytes)), model.architecture, state, model.preference.name,
                ratio(costs?.decodeRatio), ratio(costs?.prefillRatio),
                costs.map { Human.decimal(Double($0.loss), 4) } ?? "-",
            ])
        }
        guard models.contains(where: \.hasCosts) else { return table.text }
        return table.text
            + "decode, prefill: speed of dequantized over memory_low; loss of memory_low: KL, nats a token\n"
    }
}

struct Load: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load",
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
        commandName: "unload",
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

extension EbbPreference {
    var name: String {
        switch self {
        case .accuracy: "accuracy"
        case .speed: "speed"
        case .memory: "memory"
        case .UNRECOGNIZED(let code): "preference \(code)"
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
