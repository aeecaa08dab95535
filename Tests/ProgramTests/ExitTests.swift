import Foundation
import TestKit
import Testing

@Suite("How ebbctl ends, and what it prints of others", .serialized)
struct ExitTests {
    private let folder: TemporaryFolder
    private var models: String { folder.file("models") }

    init() throws { folder = try TemporaryFolder() }

    /// Imports a tiny llama as a model of that name.
    private func importTiny(_ name: String = "tiny", edit: (inout GGUFBuilder) -> Void = { _ in }) throws {
        let source = try folder.write("\(name).gguf", TinyLlama.gguf(change: edit))
        let outcome = try Programs.run("ebbctl", ["import", source, "--name", name, "--models", models])
        #expect(outcome.code == 0, "\(outcome.errors)")
    }

    /// Runs ebbctl in a shell, with words after its arguments: redirections and pipes.
    private func shell(_ arguments: String, _ words: String, input: String = "") throws -> Programs.Outcome {
        let command = "\(Programs.folder)/ebbctl \(arguments) --models \(models) \(words)"
        return try Programs.run("/bin/bash", ["-c", command], input: input)
    }

    @Test("Output that cannot be written is an error with code 1, whatever the command")
    func fullOutput() throws {
        try importTiny()
        for (arguments, input) in [
            ("inspect tiny", ""), ("inspect tiny --json", ""), ("tokenize tiny abc", ""),
            ("tokenize tiny --jsonl", "{\"text\": \"abc\"}\n"), ("score tiny --jsonl", "{\"ids\": [1, 2]}\n"),
            ("verify tiny", ""),
        ] {
            let outcome = try shell(arguments, "> /dev/full", input: input)
            #expect(outcome.code == 1, "\(arguments): \(outcome.code)")
            #expect(
                outcome.errors == "Error: cannot write to standard output: No space left on device\n",
                "\(arguments): \(outcome.errors)")
        }
        #expect(try Programs.run("/bin/bash", ["-c", "\(Programs.folder)/ebbctl --help > /dev/full"]).code == 1)
        #expect(try shell("tokenize tiny abc", ">&-").code == 1)
    }

    @Test("A reader that goes away ends ebbctl at once and without a word, as SIGPIPE would")
    func closedPipe() throws {
        try importTiny()
        let lines = String(repeating: "{\"text\": \"abc\"}\n", count: 100_000)
        let outcome = try shell("tokenize tiny --jsonl", "| head -n 1; exit ${PIPESTATUS[0]}", input: lines)
        #expect(outcome.code == 141 && outcome.errors.isEmpty, "\(outcome.code) \(outcome.errors)")
        #expect(outcome.output.split(separator: "\n").count == 1)
    }

    @Test("A closed pipe stops a generation")
    func closedGeneration() throws {
        let daemon = try Daemon()
        let options = "-n 100000 --temperature 0 --socket \(daemon.socket)"
        let run = "\(Programs.folder)/ebbctl run smollm2 --raw 'The sea' \(options)"
        let outcome = try Programs.run("/bin/bash", ["-c", "\(run) | head -c 5; exit ${PIPESTATUS[0]}"])
        #expect(outcome.code == 141 && outcome.errors.isEmpty, "\(outcome.code) \(outcome.errors)")
        try Programs.wait("an idle daemon") {
            try daemon.ctl(["status"]).output.contains(" 0 requests under way")
        }
    }

    @Test("Each class of failure has its own code")
    func codes() throws {
        try importTiny()
        func code(_ arguments: [String], input: String = "", models: String? = nil) throws -> Int32 {
            try Programs.run("ebbctl", arguments, input: input, environment: ["EBB_MODELS": models ?? self.models]).code
        }
        #expect(try code(["status", "--socket", folder.file("none")]) == 3)
        #expect(try code(["inspect", "other"]) == 4)
        #expect(try code(["tokenize", "../tiny", "a"]) == 4)
        let path = try folder.write("damaged.ebb", Array("no model at all".utf8))
        #expect(try code(["inspect", path]) == 7)
        #expect(try code(["inspect", folder.file("none.ebb")]) == 9)
        #expect(try code(["tokenize", "tiny", "--jsonl"], input: "{\"text\": \"a\"}\n{\"text\": \"b\n") == 9)
        #expect(try code(["embed", "tiny", "a", "--mode", "memory_low"]) == 9)
        // A folder that is not there, whatever is to be written: said before the work.
        let nowhere = folder.file("none/out")
        #expect(try code(["quantize", "tiny", "-o", nowhere + ".ebb"]) == 9)
        #expect(try code(["calibrate", "tiny", "--data", path, "-o", nowhere]) == 9)
        #expect(try code(["evaluate", "tiny", "--against", "tiny", "--plot", nowhere + ".svg"]) == 9)
        #expect(try code(["score", "tiny", "--jsonl", "--logits", nowhere]) == 9)
        #expect(try code(["embed", "tiny", "a", "--mode", "memory_low", "--socket", "/none"]) == 64)
        #expect(try code(["frobnicate"]) == 64)
        #expect(try code(["run", "tiny", "a", "--deadline", "0"]) == 64)
        #expect(try code(["run", "tiny", "a", "--priority", "first"]) == 64)
        #expect(try code(["--version"]) == 0)
    }

    @Test("The daemon's refusals have theirs, and the sentence is one line")
    func refusals() throws {
        let daemon = try Daemon()
        for (arguments, code) in [
            (["load", "nothing"], 4), (["run", "nothing", "a"], 4),
            (["run", "smollm2", "--raw", String(repeating: "word ", count: 20_000)], 9),
        ] as [([String], Int32)] {
            let outcome = try daemon.ctl(arguments)
            #expect(outcome.code == code, "\(arguments.prefix(2)): \(outcome.code) \(outcome.errors)")
            #expect(outcome.errors.hasPrefix("Error: ") && outcome.errors.split(separator: "\n").count == 1)
        }
    }

    @Test("The help and the README list the codes")
    func help() throws {
        let help = try Programs.run("ebbctl", ["--help"])
        #expect(help.code == 0)
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "../..").standardized
            .path
        let readme = try String(contentsOfFile: root + "/README.md", encoding: .utf8)
        for code in [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 64, 141] {
            let isListed = help.output.split(separator: "\n").contains { line in
                line.split(separator: " ").first == Substring("\(code)")
            }
            #expect(isListed && readme.contains("\n| \(code) | "), "\(code)")
        }
        for command in ["", "embed", "score", "import", "quantize", "calibrate", "evaluate", "advise", "prefer", "run"]
        {
            let help = try Programs.run("ebbctl", [command, "--help"].filter { !$0.isEmpty })
            #expect(!help.output.split(separator: "\n").contains { $0.count > 80 }, "\(command)")
        }
    }

    @Test("The daemon's help fits 80 columns, has its explanations in one, and says once what an option takes")
    func daemonHelp() throws {
        let help = try Programs.run("ebbd", ["--help"], environment: ["COLUMNS": "80"])
        #expect(help.code == 0)
        let lines = help.output.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        #expect(!lines.contains { $0.count > 80 })
        let options = lines.drop { $0 != "OPTIONS:" }.dropFirst().filter { !$0.isEmpty }
        #expect(options.count > 20)
        for line in options {
            #expect(line.hasPrefix("  -") || line.hasPrefix(String(repeating: " ", count: 26)), "\(line)")
        }
        let words = options.joined(separator: " ").split(whereSeparator: { " ,;:().".contains($0) })
        for value in ["auto", "memory_low", "f16", "f32", "trace", "critical"] {
            // The default is among them.
            let count = ["auto", "f16"].contains(value) ? 2 : 1
            #expect(words.count { $0 == value } == count, "\(value)")
        }
    }

    @Test("Controls in a model's metadata are written out, in tables and in JSON")
    func controls() throws {
        let evil = "a\u{1b}[2J\u{9b}\u{202e}b\nc\u{85}"
        try importTiny { $0.pairs.append(("general.name", .string(evil))) }
        let shown = try Programs.run("ebbctl", ["inspect", "tiny", "--models", models])
        #expect(shown.code == 0 && shown.output.contains(#"a\u{1b}[2J\u{9b}\u{202e}b\nc\u{85}"#), "\(shown.output)")
        let json = try Programs.run("ebbctl", ["inspect", "tiny", "--models", models, "--json"])
        for output in [shown.output, json.output] {
            let controls = output.unicodeScalars.filter { scalar in
                scalar != "\n" && (scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) || scalar == "\u{202e}")
            }
            #expect(controls.isEmpty)
        }
        let report = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
        #expect((report?["metadata"] as? [String: String])?["general.name"] == evil)
        let error = try Programs.run("ebbctl", ["inspect", "\u{1b}[31m\u{202e}.ebb"])
        #expect(error.code == 9 && error.errors.contains(#"\u{1b}[31m\u{202e}.ebb"#), "\(error.errors)")
    }

    @Test("Lines with a byte order mark and carriage returns give what they give without")
    func marks() throws {
        try importTiny()
        let plain = "{\"text\": \"abc\"}\n{\"text\": \"b\"}\n"
        let arguments = ["tokenize", "tiny", "--jsonl", "--models", models]
        let wanted = try Programs.run("ebbctl", arguments, input: plain)
        let marked = "\u{feff}" + plain.replacingOccurrences(of: "\n", with: "\r\n")
        let outcome = try Programs.run("ebbctl", arguments, input: marked)
        #expect(wanted.code == 0 && outcome.output == wanted.output, "\(outcome.errors)")
        let broken = try Programs.run("ebbctl", arguments, input: plain + "{\"text\": \"b\"\n")
        #expect(broken.code == 9 && broken.errors.contains("line 3 is no JSON object: not valid JSON at byte"))
        let latin = try shell("tokenize tiny --jsonl", "< <(printf '{\"text\": \"a\"}\\n{\"text\": \"\\xe4\"}\\n')")
        #expect(latin.code == 9 && latin.errors.contains("standard input: line 2 is not UTF-8"), "\(latin.errors)")
    }
}
