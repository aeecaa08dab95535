import ArgumentParser
import EbbClient
import EbbProtocol
import Foundation

struct Prefer: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prefer",
        abstract: "Choose what free memory is used for.",
        usage: "ebbctl prefer <model> [<preference>] [--priority <priority>] [<options>]",
        discussion: """
            accuracy expands layers when there is room (the default), speed uses whichever mode a probe measured as faster, \
            memory never expands. The governor acts on it while the model's mode is auto; it is kept over restarts. Models of \
            higher priority are expanded first and give way last.

            EXAMPLES
              ebbctl prefer smollm2 memory
              ebbctl prefer smollm2 accuracy --priority 5
            """)

    @Argument(help: "A model's name.")
    var model: String

    @Argument(help: "accuracy, speed or memory.")
    var preference: WishedPreference?

    @Option(parsing: .unconditional, help: "Priority among models; 0 unless set.")
    var priority: Int?

    @OptionGroup var daemon: DaemonOptions

    func validate() throws {
        if preference == nil, priority == nil {
            throw ValidationError("Say accuracy, speed or memory, or a --priority.")
        }
        if let priority, Int32(exactly: priority) == nil {
            throw ValidationError("--priority takes \(Int32.min) to \(Int32.max).")
        }
    }

    func run() async throws {
        try await daemon.connect().prefer(model, preference?.value, priority: priority)
        let words = [preference.map { "prefers \($0.rawValue)" }, priority.map { "priority \($0)" }].compactMap { $0 }
        try Terminal.out("\(model): \(words.joined(separator: ", "))\n")
    }
}

enum WishedPreference: String, ExpressibleByArgument, CaseIterable {
    case accuracy, speed, memory

    var value: EbbPreference {
        switch self {
        case .accuracy: .accuracy
        case .speed: .speed
        case .memory: .memory
        }
    }
}

struct Pressure: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pressure",
        abstract: "Tell the governor how scarce memory is.",
        discussion: """
            The word holds for a while, beside what the other sources say; the most severe counts. Before something big is \
            started, it makes room ahead of time. nominal takes the word back.

            EXAMPLES
              ebbctl pressure warning --for 30s
              ebbctl pressure critical --for 5m
              ebbctl pressure nominal
            """)

    @Argument(help: "nominal, warning or critical.")
    var level: SpokenLevel

    @Option(name: .customLong("for"), help: "How long it holds: 30s, 5m, 1h.")
    var time = Span(seconds: 30)

    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let seconds = level == .nominal ? 0 : time.seconds
        try await daemon.connect().setPressure(level.value, seconds: UInt32(clamping: seconds))
        try Terminal.out(level == .nominal ? "the operator is silent again\n" : "\(level.rawValue) for \(seconds) s\n")
    }
}

enum SpokenLevel: String, ExpressibleByArgument, CaseIterable {
    case nominal, warning, critical

    var value: EbbLevel {
        switch self {
        case .nominal: .nominal
        case .warning: .warning
        case .critical: .critical
        }
    }
}

/// A time as people write it: `30s`, `5m`, `1h`, `30`.
struct Span: ExpressibleByArgument {
    let seconds: Int

    init(seconds: Int) { self.seconds = seconds }

    init?(argument: String) {
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600]
        let unit = argument.last.flatMap { units[$0] }
        guard let number = Int(unit == nil ? argument[...] : argument.dropLast()), (1...86_400).contains(number),
            number * (unit ?? 1) <= 86_400
        else { return nil }
        seconds = number * (unit ?? 1)
    }

    var defaultValueDescription: String { "\(seconds)s" }
}

struct Events: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events",
        abstract: "Follow changes of level, mode and residency.",
        discussion: """
            Ends with Ctrl-C, or after --count events.

            EXAMPLES
              ebbctl events
              ebbctl events --json | jq .reason
            """)

    @Flag(help: "Print a line of JSON for each event.")
    var json = false

    @Option(help: "End after so many events.")
    var count: Int?

    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        var left = count ?? .max
        guard left > 0 else { return }
        for try await event in try await daemon.connect().events() {
            if json { try JSONOutput.text(try event.jsonString()) } else { try Terminal.out(Self.line(event) + "\n") }
            left -= 1
            if left == 0 { break }
        }
    }

    /// Of this place, as `2026-11-27 06:23:21`.
    private static func stamp(_ time: Date) -> String {
        time.formatted(.iso8601.year().month().day().dateTimeSeparator(.space).time(includingFractionalSeconds: false))
    }

    /// One line, without its end.
    static func line(_ event: EbbEvent) -> String {
        // No later than the year 9999: what a clock says, not what a number can hold.
        let time = Date(timeIntervalSince1970: Double(min(event.timeMs, 253_402_300_799_000)) / 1000)
        var what = event.kind == .level ? "pressure \(event.what)" : "\(event.model) \(event.what)"
        if event.kind == .mode {
            what += " \(event.changes); now \(event.standing)"
        }
        if event.freedBytes > 0 { what += ", \(Human.bytes(Int(event.freedBytes))) back" }
        if event.reactionUs > 0 { what += " in \(Human.decimal(Double(event.reactionUs) / 1000, 1)) ms" }
        return "\(Self.stamp(time))  \(what): \(event.reason)".printable
    }
}
