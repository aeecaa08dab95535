import EbbProtocol
import Foundation
import TestKit
import Testing

@Suite("What ebbctl makes of a daemon's answers", .serialized)
struct ForeignTextTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private static let evil = "e\u{1b}[2J\u{9b}31m\u{202e}v\nil\u{85}\u{2066}"

    private func ebbctl(_ arguments: [String], _ answer: @escaping @Sendable (FakeDaemon.Body) -> [FakeDaemon.Body])
        throws -> Programs.Outcome
    {
        let daemon = try FakeDaemon(in: folder, answer: answer)
        return try withExtendedLifetime(daemon) {
            try Programs.run("ebbctl", arguments + ["--socket", daemon.socket])
        }
    }

    /// No control is left but line feeds, in no line longer than a terminal.
    private func expectPrintable(_ text: String, columns: Int? = 80) {
        let controls = text.unicodeScalars.filter { $0 != "\n" && $0.isControl }
        #expect(controls.isEmpty, "\(text.debugDescription)")
        let longest = text.split(separator: "\n").map(\.count).max() ?? 0
        if let columns { #expect(longest <= columns, "\(text)") }
    }

    /// A status in which everything is named by an enemy, and as large as it can be.
    private static func status(_ figure: UInt64) -> EbbStatus {
        var status = EbbStatus()
        (status.server, status.isa, status.uptimeMs, status.pid) = (evil, evil, figure, .max)
        (status.anonymousBytes, status.fileBytes, status.availableBytes) = (figure, figure, figure)
        (status.ownBytes, status.budgetBytes, status.reserveBytes) = (figure, figure, figure)
        (status.heapBytes, status.heapFreeBytes, status.queuedRequests) = (figure, figure, 12)
        (status.connections, status.activeRequests, status.threads) = (1024, 64, 256)
        for (name, isUnknown) in [("PSI system", false), ("cgroup", true), (evil, true)] {
            var source = EbbSource()
            (source.name, source.reading, source.unknown) = (name, "\(evil) has no words", isUnknown)
            status.sources.append(source)
        }
        for kind in ["kv", "prompts", "texts", "replies", evil] {
            var entry = EbbLedgerEntry()
            (entry.kind, entry.bytes) = (kind, figure)
            status.ledger.append(entry)
        }
        for name in ["smollm2", evil + String(repeating: "n", count: 100)] {
            var model = EbbModelStatus()
            (model.name, model.mode, model.architecture) = (name, .dequantized, evil)
            (model.layers, model.expandedLayers, model.activeRequests, model.queuedRequests) = (48, 48, 64, 99)
            (model.residentBytes, model.expandedBytes, model.kvBytes) = (figure, figure, figure)
            (model.scratchBytes, model.reservedKvBytes, model.prefixBytes) = (figure, figure, figure)
            (model.prefillRate, model.decodeRate, model.prefixes) = (1e30, .nan, 3)
            (model.promptTokens, model.generatedTokens) = (figure, figure)
            status.models.append(model)
        }
        var client = EbbClientStatus()
        (client.name, client.pid, client.uid) = (evil + String(repeating: "c", count: 100), 4_194_304, .max)
        status.clients = [client]
        return status
    }

    @Test(
        "status and top keep to 80 columns and print no control, whatever the daemon says",
        arguments: [1, 999_900_000, UInt64.max])
    func status(figure: UInt64) throws {
        for arguments in [["status"], ["top", "--once"]] {
            let outcome = try ebbctl(arguments) { _ in [.status(Self.status(figure))] }
            #expect(outcome.code == 0, "\(arguments): \(outcome.errors)")
            // The kernel's figures fit; what no machine has may be cut.
            expectPrintable(outcome.output, columns: figure == .max && arguments == ["status"] ? nil : 80)
            #expect(outcome.output.contains("12 waiting") && outcome.output.contains("64+99"), "\(outcome.output)")
            #expect(outcome.output.contains("unknown ("), "\(outcome.output)")
            #expect(outcome.output.contains("kv ") && outcome.output.contains("promised"), "\(outcome.output)")
        }
        let json = try ebbctl(["status", "--json"]) { _ in [.status(Self.status(figure))] }
        expectPrintable(json.output, columns: nil)
        let parsed = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
        #expect(parsed?["queuedRequests"] as? Int == 12 && (parsed?["ledger"] as? [Any])?.count == 5)
        #expect(parsed?["server"] as? String == Self.evil)
    }

    @Test("models, load and events print no control")
    func others() throws {
        var model = EbbModel()
        (model.name, model.architecture, model.error) = (Self.evil, Self.evil, Self.evil)
        var models = EbbModels()
        models.models = [model]
        var event = EbbEvent()
        (event.kind, event.model, event.what, event.reason) = (.residency, Self.evil, Self.evil, Self.evil)
        (event.timeMs, event.freedBytes, event.reactionUs) = (.max, .max, .max)
        let answers = (models, event)
        for arguments in [["models"], ["models", "--json"], ["events", "--count", "1"], ["load", Self.evil]] {
            let outcome = try ebbctl(arguments) { request in
                switch request {
                case .listModels: [.models(answers.0)]
                case .subscribe: [.event(answers.1)]
                default: [.status(Self.status(7))]
                }
            }
            #expect(outcome.code == 0, "\(arguments): \(outcome.errors)")
            expectPrintable(outcome.output, columns: nil)
            #expect(outcome.output.contains("31m"))
        }
    }

    @Test(
        "Every refusal of the daemon ends with its own code and one printable line",
        arguments: [
            (EbbCode.unsupportedVersion, 3), (.unknownModel, 4), (.permissionDenied, 5), (.overloaded, 6),
            (.outOfMemory, 6), (.shuttingDown, 6), (.slowReader, 6), (.modelUnusable, 7), (.cancelled, 8),
            (.badRequest, 9), (.contextFull, 9), (.frameTooLarge, 9), (.deadlineExceeded, 10), (.internal, 1),
        ] as [(EbbCode, Int32)])
    func refusals(code: EbbCode, status: Int32) throws {
        let outcome = try ebbctl(["run", "m", "a"]) { _ in [.failure(EbbFailure(code, "no: \(Self.evil)"))] }
        #expect(outcome.code == status && outcome.output.isEmpty)
        #expect(outcome.errors.hasPrefix("Error: no: e") && outcome.errors.split(separator: "\n").count == 1)
        expectPrintable(outcome.errors)
    }

    /// A text in two pieces, and its end.
    @Sendable private static func generation(_ request: FakeDaemon.Body) -> [FakeDaemon.Body] {
        let pieces = ["one \u{1b}[31mred", "\u{9b}0m\ttwo\nthree"].map { text in
            var delta = EbbDelta()
            delta.text = text
            return FakeDaemon.Body.delta(delta)
        }
        return pieces + [.finished(EbbFinished())]
    }

    /// Thinking, an answer, a call, and half of another.
    @Sendable private static func channels(_ request: FakeDaemon.Body) -> [FakeDaemon.Body] {
        func delta(_ text: String, _ channel: EbbChannel, call: String? = nil) -> FakeDaemon.Body {
            var delta = EbbDelta()
            (delta.text, delta.channel) = (text, channel)
            if let call { (delta.call.name, delta.call.argumentsJson) = (call, "{}") }
            return .delta(delta)
        }
        return [
            delta("Hm", .thinking), delta(".", .thinking), delta("So:", .answer), delta("{a}", .toolCall, call: "f"),
            delta("{b", .toolCall), .finished(EbbFinished()),
        ]
    }

    @Test("Thinking goes to standard error, all else to standard output; JSON has each apart, and loses nothing")
    func channels() throws {
        let outcome = try ebbctl(["run", "m", "a"], Self.channels)
        #expect(outcome.output == "So:{a}{b\n" && outcome.errors.hasPrefix("Hm.\n\n"), "\(outcome)")
        let hidden = try ebbctl(["run", "m", "a", "--hide-thinking"], Self.channels)
        #expect(hidden.output == outcome.output && !hidden.errors.contains("Hm"))
        let json = try ebbctl(["run", "m", "a", "--json"], Self.channels).output
        let members = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
        #expect(members["text"] as? String == "So:" && members["thinking"] as? String == "Hm.")
        #expect(members["unfinished_call"] as? String == "{b")
        #expect((members["tool_calls"] as? [[String: String]])?.map { $0["name"] } == ["f"])
    }

    @Test("What a model writes goes into a pipe as it is")
    func pipe() throws {
        let outcome = try ebbctl(["run", "m", "a"], Self.generation)
        #expect(outcome.output == "one \u{1b}[31mred\u{9b}0m\ttwo\nthree\n")
    }

    @Test("What a model writes reaches a terminal without controls")
    func terminal() throws {
        let python = "/usr/bin/python3"
        guard FileManager.default.isExecutableFile(atPath: python) else {
            print("skipped: there is no \(python)")
            return
        }
        let daemon = try FakeDaemon(in: folder, answer: Self.generation)
        let spawn = "import pty, sys; pty.spawn(sys.argv[1:])"
        let outcome = try Programs.run(
            python, ["-c", spawn, "\(Programs.folder)/ebbctl", "run", "m", "a", "--socket", daemon.socket])
        #expect(outcome.output.contains("one \\u{1b}[31mred\\u{9b}0m\ttwo\r\nthree"), "\(outcome.output)")
    }

    @Test("--priority, --deadline, --reproducible and --seed are asked for")
    func options() throws {
        let daemon = try FakeDaemon(in: folder) { request in
            switch request {
            case .embed: [.embeddings(EbbEmbeddings.with { $0.vectors = [.with { $0.values = [1] }] })]
            case .listModels: [.models(EbbModels())]
            default: Self.generation(request)
            }
        }
        let run = ["run", "m", "--raw", "a", "--priority", "background", "--deadline", "1.5", "--reproducible"]
        #expect(try Programs.run("ebbctl", run + ["--seed", "7", "--socket", daemon.socket]).code == 0)
        guard case .generate(let request)? = daemon.requests.last else {
            Issue.record("\(daemon.requests)")
            return
        }
        #expect(request.priority == .background && request.deadlineMs == 1500 && request.reproducible)
        #expect(request.sampling.seed == 7)
        #expect(try Programs.run("ebbctl", ["run", "m", "a", "--socket", daemon.socket]).code == 0)
        guard case .generate(let plain)? = daemon.requests.last else { return }
        #expect(plain.priority == .normal && plain.deadlineMs == 0 && !plain.reproducible)
        let embed = ["embed", "m", "a", "--priority", "interactive", "--socket", daemon.socket]
        #expect(try Programs.run("ebbctl", embed).output == "{\"embedding\":[1]}\n")
        guard case .embed(let texts)? = daemon.requests.last else { return }
        #expect(texts.priority == .interactive)
    }
}
