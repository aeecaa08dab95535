import ArgumentParser
import EbbClient
import EbbProtocol
import Glibc

struct Top: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Watch the daemon live.",
        discussion: """
            Levels and what the sources say, bytes over time, tokens a second, and who waits for what. Ends with q or Ctrl-C. \
            Where the output is no terminal it prints one picture and ends.

            EXAMPLES
              ebbctl top
              ebbctl top --interval 0.5
              ebbctl top --once
            """)

    @Option(help: "Seconds between two pictures.")
    var interval = 1.0

    @Flag(help: "Print one picture and end.")
    var once = false

    @OptionGroup var daemon: DaemonOptions

    func validate() throws {
        guard (0.1...60).contains(interval) else { throw ValidationError("--interval takes 0.1 to 60 seconds.") }
    }

    func run() async throws {
        let ebb = try await daemon.connect()
        var history = TopHistory()
        history.take(try await ebb.status(), seconds: 0)
        guard isatty(STDOUT_FILENO) != 0, !once else {
            try await Task.sleep(for: .seconds(min(interval, 1)))
            history.take(try await ebb.status(), seconds: min(interval, 1))
            return try Terminal.out(TopView(history, columns: 80, rows: 24).text)
        }
        let screen = try FullScreen()
        defer { screen.leave() }
        while !screen.isLeft(after: interval) {
            history.take(try await ebb.status(), seconds: interval)
            let (columns, rows) = screen.size
            try screen.show(TopView(history, columns: columns, rows: rows).text)
        }
    }
}

/// The alternate screen of a terminal, with keys read one at a time.
struct FullScreen {
    private let before: termios

    init() throws {
        var settings = termios()
        tcgetattr(STDIN_FILENO, &settings)
        before = settings
        settings.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG)
        tcsetattr(STDIN_FILENO, TCSANOW, &settings)
        try Terminal.raw("\u{1b}[?1049h\u{1b}[?25l")
    }

    func leave() {
        try? Terminal.raw("\u{1b}[?25h\u{1b}[?1049l")
        var settings = before
        tcsetattr(STDIN_FILENO, TCSANOW, &settings)
    }

    /// Columns and rows.
    var size: (Int, Int) {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return (80, 24)
        }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    /// Lines without controls.
    func show(_ text: String) throws {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\u{1b}[K\r\n")
        try Terminal.raw("\u{1b}[H\(lines)\u{1b}[J")
    }

    /// Waits; true once q, Ctrl-C or the end of the input came.
    func isLeft(after seconds: Double) -> Bool {
        var polled = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        guard poll(&polled, 1, Int32(seconds * 1000)) > 0 else { return false }
        var key: UInt8 = 0
        guard read(STDIN_FILENO, &key, 1) == 1 else { return true }
        return key == UInt8(ascii: "q") || key == 3
    }
}

/// What `ebbctl top` remembers: the last status, rates since the one before, bytes over time.
struct TopHistory {
    private(set) var status = EbbStatus()
    /// Prompt and generated tokens a second, by model.
    private(set) var rates: [String: (prompt: Double, generated: Double)] = [:]
    /// Bytes of the process in RAM, the newest last.
    private(set) var bytes: [UInt64] = []
    private(set) var expanded: [UInt64] = []

    mutating func take(_ new: EbbStatus, seconds: Double) {
        var rates: [String: (prompt: Double, generated: Double)] = [:]
        for model in new.models {
            guard seconds > 0, let old = status.models.first(where: { $0.name == model.name }) else { continue }
            func rate(_ now: UInt64, _ then: UInt64) -> Double { now >= then ? Double(now - then) / seconds : 0 }
            rates[model.name] = (
                rate(model.promptTokens, old.promptTokens), rate(model.generatedTokens, old.generatedTokens)
            )
        }
        self.rates = rates
        status = new
        bytes = Array((bytes + [new.anonymousBytes &+ new.fileBytes]).suffix(200))
        expanded = Array((expanded + [new.models.reduce(0) { $0 &+ $1.expandedBytes }]).suffix(200))
    }
}

/// One picture of `ebbctl top`, cut to the terminal.
struct TopView {
    private let history: TopHistory
    private let columns: Int
    private let rows: Int

    init(_ history: TopHistory, columns: Int, rows: Int) {
        (self.history, self.columns, self.rows) = (history, columns, rows)
    }

    var text: String {
        let lines = (head + memory + models + clients).prefix(max(1, rows - 1))
        return lines.map { String($0.printable.prefix(columns)) }.joined(separator: "\n") + "\n"
    }

    private var status: EbbStatus { history.status }

    private var head: [String] {
        let seconds = status.uptimeMs / 1000
        let waiting = status.queuedRequests > 0 ? " + \(status.queuedRequests) waiting" : ""
        return [
            "ebb top   pressure \(status.level.name), up \(seconds / 3600) h \(seconds / 60 % 60) min, "
                + "\(status.activeRequests) requests\(waiting), \(status.isa) x \(status.threads)"
        ] + status.sources.map { Self.mark($0) + Human.padded($0.name, 16) + $0.word } + [""]
    }

    private static func mark(_ source: EbbSource) -> String {
        source.unknown ? "? " : source.level == .nominal ? "  " : "! "
    }

    private var memory: [String] {
        func row(_ name: String, _ values: [UInt64]) -> String {
            Human.padded(name, 10) + Human.padded(Human.bytes(values.last ?? 0), 10, left: true) + "  "
                + Self.sparkline(values, width: columns - 24)
        }
        func line(_ name: String, _ bytes: UInt64, _ rest: String) -> String {
            Human.padded(name, 10) + Human.padded(Human.bytes(bytes), 10, left: true) + "  " + rest
        }
        let limits = "budget \(Human.bytes(status.budgetBytes)), reserve \(Human.bytes(status.reserveBytes))"
        var lines = [row("in RAM", history.bytes), row("expanded", history.expanded)]
        if status.heapBytes > 0 {
            lines.append(line("heap", status.heapBytes, "and \(Human.bytes(status.heapFreeBytes)) free"))
        }
        if let promises = Status.promises(status) {
            lines.append(line("promised", status.ledger.reduce(0) { $0 &+ $1.bytes }, promises))
        }
        return lines + [line("available", status.availableBytes, limits), ""]
    }

    private var models: [String] {
        guard !status.models.isEmpty else { return ["no model is loaded", ""] }
        var table = Table(
            ["model", "mode", "layers", "expanded", "mapped", "KV", "req", "in/s", "out/s"],
            right: [2, 3, 4, 5, 6, 7, 8])
        for model in status.models {
            let rate = history.rates[model.name] ?? (0, 0)
            table.add([
                // What the other columns leave.
                Human.cut(model.name, max(8, min(40, columns - 72))), model.parked ? "parked" : model.mode.name,
                "\(model.expandedLayers)/\(model.layers)", Human.bytes(model.expandedBytes),
                Human.bytes(model.residentBytes), Human.bytes(model.kvBytes), model.requests,
                Human.decimal(rate.prompt, 0), Human.decimal(rate.generated, 0),
            ])
        }
        return table.text.split(separator: "\n").map(String.init) + [""]
    }

    private var clients: [String] {
        var table = Table(["client", "pid", "uid", "requests"], right: [1, 2, 3])
        for client in status.clients.sorted(by: { $0.requests > $1.requests }) {
            table.add([Human.cut(client.name, 40), "\(client.pid)", "\(client.uid)", "\(client.requests)"])
        }
        return table.text.split(separator: "\n").map(String.init)
    }

    /// Values as blocks of eight heights, the newest at the right.
    static func sparkline(_ values: [UInt64], width: Int) -> String {
        let most = max(values.max() ?? 0, 1)
        let blocks = Array("▁▂▃▄▅▆▇█")
        return String(values.suffix(max(0, width)).map { blocks[min(7, Int(Double($0) / Double(most) * 7))] })
    }
}
