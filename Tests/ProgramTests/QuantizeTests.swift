import Foundation
import Testing
import TestKit

@Suite("Quantizing from the command line", .serialized)
struct QuantizeTests {
    private let folder: TemporaryFolder
    /// The tiny BERT's folder; what is written lies there too.
    private var source: String { folder.path }

    init() throws { folder = try TinyBert().folder() }

    private func ebbctl(_ arguments: [String], input: String = "") throws -> Programs.Outcome {
        try Programs.run("ebbctl", arguments, input: input, environment: ["EBB_MODELS": folder.file("models")])
    }

    private func json(_ outcome: Programs.Outcome) throws -> [String: Any] {
        #expect(outcome.code == 0, "\(outcome.errors)")
        return try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any] ?? [:]
    }

    private func lines(_ count: Int) throws -> String {
        let words = ["abc", "hello world", "a b c d", "the quick fox", "zzz yyy"]
        let text = (0..<count).map { words[$0 % words.count] }.joined(separator: "\n")
        return try folder.write("lines.txt", Array((text + "\n").utf8))
    }

    @Test("Ebb's and MNN's spellings mean the same, to the byte")
    func spellings() throws {
        let ours = ["--weight-bits", "3", "--block", "-1", "--symmetric"]
        let mnn = ["--weightQuantBits", "3", "--weightQuantBlock", "-1", "--weightQuantAsymmetric=0"]
        for (name, options) in [("a", ours), ("b", mnn)] {
            let outcome = try ebbctl(["quantize", source, "-o", folder.file("\(name).ebb")] + options)
            #expect(outcome.code == 0, "\(outcome.errors)")
            #expect(outcome.output.contains("3 bit, per channel, symmetric"))
        }
        let (a, b) = (folder.file("a.ebb"), folder.file("b.ebb"))
        #expect(FileManager.default.contentsEqual(atPath: a, andPath: b))
    }

    @Test("Widths of 1 and 9, odd blocks and contradictions are refused, and leave no file")
    func refused() throws {
        for (options, word) in [
            (["--weight-bits", "1"], "2 to 8"), (["--weight-bits", "9"], "2 to 8"), (["--block", "48"], "possible"),
            (["--scale-bits", "8"], "16 or 32"), (["--method", "gptq"], "--calibration"),
            (["--hqq", "--method", "mse"], "hqq"),
            (["--fp16", "--weight-bits", "4"], "--fp16"), (["--keep", "("], "regular expression"),
            (["--keep", "blk.77.*"], "names no matrix"), (["--target-size", "9"], "impossible"),
            (["--full-int8", "none.json"], "none.json"), (["--recipe", "none.json"], "none.json"),
        ] {
            let outcome = try ebbctl(["quantize", source, "-o", folder.file("x.ebb")] + options)
            #expect(outcome.code != 0 && outcome.errors.contains(word), "\(options): \(outcome.errors)")
            #expect(!folder.names.contains { $0.hasPrefix("x.") })
        }
    }

    @Test("A file is replaced only by force")
    func force() throws {
        let arguments = ["quantize", source, "-o", folder.file("x.ebb"), "--fp16"]
        #expect(try ebbctl(arguments).code == 0)
        let again = try ebbctl(arguments)
        #expect(again.code != 0 && again.errors.contains("--force"))
        #expect(try ebbctl(arguments + ["--force"]).code == 0)
    }

    @Test("Import, quantize, evaluate and embed, as a person would")
    func journey() throws {
        #expect(try ebbctl(["import", source, "--name", "tiny"]).code == 0)
        let made = try json(
            ebbctl(["quantize", "tiny", "-o", folder.file("q.ebb"), "--weight-bits", "8", "--hqq", "--json"]))
        #expect((made["bytes"] as? Int ?? 0) > 0)
        #expect(FileManager.default.fileExists(atPath: folder.file("q.recipe.json")))
        let plot = folder.file("loss.svg")
        let outcome = try ebbctl(
            ["evaluate", folder.file("q.ebb"), "--against", "tiny", "--texts", try lines(9), "--plot", plot, "--json"])
        #expect(outcome.code == 0, "\(outcome.errors)")
        let reports = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [[String: Any]] ?? []
        let loss = reports.first?["loss"] as? [String: Any]
        #expect((loss?["mean_cosine"] as? Double ?? 0) > 0.99)
        #expect((reports.first?["matrices"] as? [Any])?.count == 15)
        #expect(try String(contentsOfFile: plot, encoding: .utf8).hasPrefix("<svg"))
        let embedded = try ebbctl(
            ["embed", folder.file("q.ebb"), "--jsonl", "--mode", "dequantized"],
            input: "{\"text\":\"abc\"}\n\n{\"text\":\"hello\"}\n")
        #expect(embedded.output.split(separator: "\n").count == 2, "\(embedded.errors)")
        let bad = try ebbctl(["embed", "tiny", "--jsonl"], input: "{\"text\":\"abc\"}\nnonsense\n")
        #expect(bad.code != 0 && bad.errors.contains("line 2"))
        // What came before it is answered.
        #expect(bad.output.split(separator: "\n").count == 1)
    }

    @Test("calibrate and --full-int8 make a model with fixed scales; an empty file is refused")
    func fullInt8() throws {
        let calibrated = try ebbctl(
            ["calibrate", source, "--data", try lines(20), "-o", folder.file("c.json")])
        #expect(calibrated.code == 0, "\(calibrated.errors)")
        let again = try ebbctl(["calibrate", source, "--data", try lines(20), "-o", folder.file("c.json")])
        #expect(again.code == 9 && again.errors.contains("--force"))
        let made = try json(
            ebbctl([
                "quantize", source, "-o", folder.file("i.ebb"), "--full-int8", folder.file("c.json"), "--json",
            ]))
        let loss = made["loss"] as? [String: Any]
        #expect((loss?["mean_cosine"] as? Double ?? 0) > 0.98)
        try folder.write("empty.txt", [])
        let empty = try ebbctl(["calibrate", source, "--data", folder.file("empty.txt"), "-o", folder.file("e.json")])
        #expect(empty.code != 0 && empty.errors.contains("empty"))
    }

    @Test("advise names a command that works, its reasons, and every candidate's figures")
    func advise() throws {
        let advice = try json(ebbctl(["advise", source, "--memory", "2G", "--calibration", try lines(20), "--json"]))
        #expect((advice["reasons"] as? [String])?.isEmpty == false)
        let candidates = advice["candidates"] as? [[String: Any]] ?? []
        #expect(candidates.count >= 8 && candidates.count { $0["chosen"] as? Bool == true } == 1)
        for candidate in candidates {
            #expect((candidate["memory_low_rate"] as? Double ?? 0) > 0)
            #expect((candidate["file_bytes"] as? Int ?? 0) > 0)
        }
        let command = (advice["command"] as? String ?? "").split(separator: " ").map(String.init)
        #expect(command.first == "ebbctl")
        var arguments = Array(command.dropFirst())
        if let output = arguments.firstIndex(of: "-o") { arguments[output + 1] = folder.file("advised.ebb") }
        let outcome = try ebbctl(arguments)
        #expect(outcome.code == 0, "\(command): \(outcome.errors)")
        let tight = try ebbctl(["advise", source, "--memory", "1K"])
        #expect(tight.code != 0 && tight.errors.contains("nothing useful fits"))
    }

    @Test("bench measures encoders and the machine's limits, and says so as JSON")
    func bench() throws {
        #expect(try ebbctl(["import", source, "--name", "tiny"]).code == 0)
        let outcome = try ebbctl(["bench", "tiny", "-r", "1", "--batch", "2", "--length", "16", "--json"])
        let rows = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [[String: Any]] ?? []
        #expect(rows.map { $0["test"] as? String } == ["2x16"], "\(outcome.errors)")
        #expect((rows.first?["texts_per_second"] as? Double ?? 0) > 0)
        let limits = try json(ebbctl(["bench", "--limits", "--json"]))
        for key in ["int8_gops", "float_gflops", "read_gbps"] { #expect((limits[key] as? Double ?? 0) > 0, "\(key)") }
        let both = try ebbctl(["bench", "tiny", "--limits"])
        #expect(both.code != 0 && both.errors.contains("--limits"))
    }

    @Test("Memory does not grow with the model: MiniLM's 90 MB pass through less than 100")
    func streaming() throws {
        let child = try Child(
            "ebbctl", ["quantize", try RealModel.minilm.path, "-o", folder.file("m.ebb"), "--hqq"], environment: [:],
            folder: folder)
        var peak = 0
        while child.isRunning {
            let status = (try? String(contentsOfFile: "/proc/\(child.pid)/status", encoding: .utf8)) ?? ""
            let line = status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") } ?? ""
            peak = max(peak, Int(line.split(separator: " ").dropFirst().first ?? "0") ?? 0)
            usleep(2_000)
        }
        #expect(try child.wait() == 0)
        #expect(peak > 0 && peak < 100_000, "\(peak) kB")
    }
}
