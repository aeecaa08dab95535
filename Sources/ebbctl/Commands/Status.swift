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
        if json { return try JSONOutput.text(try status.jsonString()) }
        try Terminal.out(Self.text(status))
    }

    /// For people; at most 80 columns.
    static func text(_ status: EbbStatus) -> String {
        let seconds = status.uptimeMs / 1000
        let time = "up \(seconds / 3600) h \(seconds / 60 % 60) min \(seconds % 60) s"
        var out = Human.wrapped(
            "\(status.server), pid \(status.pid), \(time), \(status.isa), \(status.threads) threads")
        out += "\npressure  \(status.level.name)\n"
        for source in status.sources { out += Human.wrapped("\(source.name): \(source.word)", indent: 10) + "\n" }
        out += Human.wrapped("memory    \(memory(status))", indent: 0, next: 10) + "\n"
        if let promises = promises(status) { out += Human.wrapped("promised  \(promises)", indent: 0, next: 10) + "\n" }
        let waiting = status.queuedRequests > 0 ? ", \(status.queuedRequests) waiting" : ""
        out += "clients   \(status.connections) connected, \(status.activeRequests) requests under way\(waiting)\n\n"
        guard !status.models.isEmpty else { return out + "no model is loaded; the first request loads one\n" }
        out += table(status.models)
        for model in status.models { out += Human.wrapped("\(model.name): \(choice(model))", indent: 2) + "\n" }
        return out
    }

    private static func table(_ models: [EbbModelStatus]) -> String {
        var table = Table(
            ["model", "mode", "layers", "expanded", "mapped", "KV", "buffers", "req"], right: [2, 3, 4, 5, 6, 7])
        for model in models {
            table.add([
                Human.cut(model.name, 12), model.parked ? "parked" : model.mode.name,
                "\(model.expandedLayers)/\(model.layers)", Human.bytes(model.expandedBytes),
                Human.bytes(model.residentBytes), Human.bytes(model.kvBytes), Human.bytes(model.scratchBytes),
                model.requests,
            ])
        }
        return table.text
    }

    private static func memory(_ status: EbbStatus) -> String {
        let all = Human.bytes(status.anonymousBytes &+ status.fileBytes)
        let (anonymous, files) = (Human.bytes(status.anonymousBytes), Human.bytes(status.fileBytes))
        let heap =
            status.heapBytes > 0
            ? " (heap: \(Human.bytes(status.heapBytes)), and \(Human.bytes(status.heapFreeBytes)) free)" : ""
        return
            "\(all) in RAM: \(anonymous) anonymous, \(files) of files; \(Human.bytes(status.ownBytes)) are the daemon's "
            + "own\(heap). Budget \(Human.bytes(status.budgetBytes)), reserve \(Human.bytes(status.reserveBytes)); "
            + "\(Human.bytes(status.availableBytes)) available"
    }

    /// What accepted requests may take, the largest first; nil where nothing is promised.
    static func promises(_ status: EbbStatus) -> String? {
        let entries = status.ledger.filter { $0.bytes > 0 }.sorted { $0.bytes > $1.bytes }
        guard !entries.isEmpty else { return nil }
        return entries.map { "\($0.kind) \(Human.bytes($0.bytes))" }.joined(separator: ", ")
    }

    /// What the governor does with a model, and what that costs.
    private static func choice(_ model: EbbModelStatus) -> String {
        var text = "prefill \(Human.rate(Double(model.prefillRate))), decode \(Human.rate(Double(model.decodeRate)))"
        text += "; prefers \(model.preference.name)"
        if model.experts > 0 { text += ", \(model.expandedExperts) of \(model.experts) experts expanded" }
        if model.priority != 0 { text += ", priority \(model.priority)" }
        if model.kvBlocksInt8 > 0 { text += ", \(model.kvBlocksInt8) of \(model.kvBlocks) KV blocks int8" }
        if model.prefixes > 0 { text += ", conversations kept: \(model.prefixes) (\(Human.bytes(model.prefixBytes)))" }
        if !model.adapters.isEmpty { text += ", adapters loaded: \(model.adapters.joined(separator: ", "))" }
        if model.reservedKvBytes > 0 { text += ", \(Human.bytes(model.reservedKvBytes)) of KV cache promised" }
        guard model.hasCosts else { return text }
        return text + "; " + model.costs.sentence(model)
    }
}

extension EbbSource {
    /// What it last said, or that it cannot be read.
    var word: String { unknown ? "unknown (\(reading))" : reading }
}

extension EbbModelStatus {
    /// Running requests, and after a + those that wait.
    var requests: String { queuedRequests > 0 ? "\(activeRequests)+\(queuedRequests)" : "\(activeRequests)" }
}

extension EbbModeCosts {
    /// What the present choice costs, in speed and in loss.
    func sentence(_ model: EbbModelStatus) -> String {
        let loss = Human.decimal(Double(loss), 4)
        if model.layers > 0, model.isWholly(expanded: true) {
            return "dequantized: exact; memory_low would run \(Self.speed(1 / decodeRatio)) in decode, "
                + "\(Self.speed(1 / prefillRatio)) in prefill, at a loss of \(loss)"
        }
        let what = model.isWholly(expanded: false) ? "memory_low" : "\(model.standing) exact; memory_low"
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
            return try JSONOutput.text("[" + (try models.map { try $0.jsonString() }.joined(separator: ",\n ")) + "]")
        }
        guard !models.isEmpty else { return try Terminal.out("no model yet: ebbctl import FILE.gguf --name NAME\n") }
        try Terminal.out(Self.text(models))
    }

    private static func text(_ models: [EbbModel]) -> String {
        var table = Table(
            ["model", "for", "family", "weights", "context", "bits", "size"], right: [3, 4, 6])
        for model in models {
            table.add([
                Human.cut(model.name, 26), model.use.word, Human.cut(model.architecture, 11),
                Human.count(Int(clamping: model.parameters)),
                model.contextLength > 0 ? "\(model.contextLength)" : "-",
                Human.cut(model.bits.map { "\($0)" }.joined(separator: ","), 8), Human.bytes(model.fileBytes),
            ])
        }
        return table.text + models.map(remark).joined()
    }

    /// What is wrong with a model, or what its two modes cost.
    private static func remark(_ model: EbbModel) -> String {
        guard model.error.isEmpty else { return Human.wrapped("\(model.name): \(model.error)", indent: 2) + "\n" }
        var parts = model.loaded ? ["loaded"] : []
        if model.use == .useGenerate, !model.hasChatTemplate_p { parts.append("no chat template") }
        if !model.adapters.isEmpty { parts.append("adapters: \(model.adapters.joined(separator: ", "))") }
        if model.preference != .accuracy { parts.append("prefers \(model.preference.name)") }
        if model.hasCosts {
            func ratio(_ value: Float) -> String { "\(Human.decimal(Double(value), 2)) x" }
            let (decode, prefill) = (ratio(model.costs.decodeRatio), ratio(model.costs.prefillRatio))
            parts.append(
                "memory_low loses \(Human.decimal(Double(model.costs.loss), 4)); dequantized, which loses nothing, runs at "
                    + (model.use == .useGenerate
                        ? "\(decode) its speed in decode, \(prefill) in prefill" : "\(prefill) its speed"))
        }
        return parts.isEmpty
            ? "" : Human.wrapped("\(model.name): \(parts.joined(separator: "; "))", indent: 2) + "\n"
    }
}

extension EbbModelUse {
    var word: String {
        switch self {
        case .useGenerate: "text"
        case .useEmbed: "embed"
        case .useRerank: "rerank"
        case .useUnspecified, .UNRECOGNIZED: "-"
        }
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
        if json { return try JSONOutput.text(try status.jsonString()) }
        try Terminal.out(
            "loaded \(model): \(Human.bytes(status.mappedBytes)) mapped, context \(status.contextTokens) tokens\n")
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
        try Terminal.out("unloaded \(model)\n")
    }
}

struct SetMode: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mode",
        abstract: "Choose how a model is run.",
        discussion: """
            auto leaves it to the governor, layer by layer and expert by expert, by the memory that there is. dequantized \
            and memory_low pin all of them, whatever the budget and the pressure say. Running requests go on; the command \
            waits until the last layer has followed.

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
        if json { return try JSONOutput.text(try status.jsonString()) }
        try Terminal.out(
            "\(model): \(mode.rawValue), \(status.standing) expanded "
                + "(\(Human.bytes(status.expandedBytes)))\n")
        if mode == .dequantized { try await warn(ebb) }
    }

    /// Says what a pin does to the budget, which does not bind it.
    private func warn(_ ebb: EbbClient) async throws {
        let status = try await ebb.status()
        guard status.anonymousBytes > status.budgetBytes else { return }
        Terminal.error(
            "note: Ebb now takes \(Human.bytes(status.anonymousBytes)), more than its budget of "
                + "\(Human.bytes(status.budgetBytes)): a pin is not bound by it, and other requests may be refused")
    }

    /// Waits until a pinned model's layers have followed.
    private func wait(_ ebb: EbbClient) async throws -> EbbModelStatus {
        let progress = ProgressLine("switching \(model)")
        defer { progress.clear() }
        for _ in 0..<3000 {
            guard let status = try await ebb.status().models.first(where: { $0.name == model }) else {
                throw CommandError(.unknownModel, "\(model) was unloaded meanwhile")
            }
            guard mode != .auto, !status.isWholly(expanded: mode == .dequantized) else { return status }
            progress.note("\(status.standing) expanded")
            try await Task.sleep(for: .milliseconds(20))
        }
        throw CommandError(.overloaded, "\(model) has not followed within a minute; see ebbctl status")
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
