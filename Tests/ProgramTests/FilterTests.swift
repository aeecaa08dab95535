import Foundation
import Testing
import TestKit

@Suite("Filters over JSON lines", .serialized)
struct FilterTests {
    private func filter(_ arguments: [String], _ lines: [String]) throws -> [[String: Any]] {
        let input = lines.joined(separator: "\n") + "\n"
        let outcome = try Programs.run("ebbctl", arguments + ["--models", try Daemon.models()], input: input)
        #expect(outcome.code == 0, "\(outcome.errors)")
        return try outcome.output.split(separator: "\n").map {
            try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any] ?? [:]
        }
    }

    @Test("tokenize --jsonl answers each line")
    func tokenize() throws {
        let out = try filter(
            ["tokenize", "smollm2", "--jsonl"],
            [
                #"{"text":"Hello, world!","add_special":true,"parse_special":false}"#,
                #"{"text":"<|im_end|>","parse_special":true}"#,
            ])
        #expect(out.map { $0["ids"] as? [Int] } == [[19556, 28, 905, 17], [2]])
    }

    @Test("score --jsonl gives what its help says, and writes all logits")
    func score() throws {
        let folder = try TemporaryFolder()
        let out = try filter(
            ["score", "smollm2", "--jsonl", "--top", "3", "--greedy", "2", "--logits", folder.file("l.npy")],
            [#"{"text":"The quick brown","add_special":false}"#, #"{"ids":[19556,28]}"#])
        #expect(out.count == 2)
        #expect(out[0]["ids"] as? [Int] == [504, 2365, 6354] || (out[0]["ids"] as? [Int])?.count == 3)
        for line in out {
            #expect((line["last_top"] as? [[Double]])?.count == 3)
            #expect((line["greedy"] as? [Int])?.count == 2)
            #expect((line["argmax"] as? [Int])?.count == (line["ids"] as? [Int])?.count)
            let top = (line["last_top"] as? [[Double]])?[0][1] ?? .infinity
            #expect((line["last_logsumexp"] as? Double ?? 0) >= top)
            #expect((line["mean_nll"] as? Double ?? -1) > 0)
        }
        let data = try Data(contentsOf: URL(fileURLWithPath: folder.file("l.npy")))
        #expect(data.prefix(6) == Data([0x93] + Array("NUMPY".utf8)))
        #expect(String(decoding: data[10..<128], as: UTF8.self).contains("(5, 49152)"))
        #expect(data.count == 128 + 5 * 49152 * 4)
    }

    @Test("score --adapter scores with what was imported, at its strength, and refuses what cannot be")
    func adapters() throws {
        let folder = try TemporaryFolder()
        func ebbctl(_ arguments: [String], input: String = "") throws -> Programs.Outcome {
            try Programs.run("ebbctl", arguments + ["--models", folder.file("models")], input: input)
        }
        let base = try folder.write("tiny.gguf", TinyLlama.gguf())
        #expect(try ebbctl(["import", base]).code == 0)
        for name in ["one", "two"] {
            let path = try folder.write("\(name).gguf", Self.adapter(seed: name == "one" ? 1 : 2))
            #expect(try ebbctl(["adapter", "import", path, "--model", "tiny"]).code == 0)
        }
        func score(_ adapters: String...) throws -> String {
            let options = adapters.flatMap { ["--adapter", $0] }
            let outcome = try ebbctl(
                ["score", "tiny", "--jsonl", "--greedy", "3"] + options, input: "{\"ids\": [1, 20, 3, 40, 5]}\n")
            #expect(outcome.code == 0, "\(outcome.errors)")
            return outcome.output
        }
        let different = [
            try score(), try score("one"), try score("two"), try score("one=-0.5"), try score("one", "two=0.5"),
        ]
        #expect(Set(different).count == different.count)
        #expect(try score("one=0") == different[0])
        #expect(try score("two=0.5", "one") == different[4])
        for (adapter, code, word) in [("three", 9, "it has one, two"), ("one=101", 64, "-100 to 100")]
            as [(_, Int32, _)]
        {
            let outcome = try ebbctl(["score", "tiny", "--jsonl", "--adapter", adapter])
            #expect(outcome.code == code && outcome.errors.contains(word), "\(outcome.code) \(outcome.errors)")
        }
    }

    /// A random adapter of ``TinyLlama`` as a GGUF.
    private static func adapter(seed: UInt64) -> [UInt8] {
        var random = TestRandom(seed: seed)
        let weight = "blk.0.attn_q.weight"
        return GGUFBuilder(
            [
                ("general.type", .string("adapter")), ("general.architecture", .string("llama")),
                ("adapter.type", .string("lora")), ("adapter.lora.alpha", .float32(4)),
            ],
            [
                .f32(weight + ".lora_a", [64, 4], random.floats(256)),
                .f32(weight + ".lora_b", [4, 64], random.floats(256)),
            ]
        ).build()
    }

    @Test("A line that is no JSON is refused with its number")
    func badLine() throws {
        let outcome = try Programs.run(
            "ebbctl", ["tokenize", "smollm2", "--jsonl", "--models", try Daemon.models()],
            input: "{\"text\":\"a\"}\nnonsense\n")
        #expect(outcome.code != 0 && outcome.errors.contains("line 2"))
    }

    @Test("bench prints llama-bench's tests as JSON")
    func bench() throws {
        let outcome = try Programs.run(
            "ebbctl", ["bench", "smollm2", "-p", "16", "-n", "4", "-r", "1", "--json", "--models", try Daemon.models()])
        let rows = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [[String: Any]] ?? []
        #expect(rows.map { $0["test"] as? String } == ["pp16", "tg4"])
        #expect(rows.allSatisfy { ($0["tokens_per_second"] as? Double ?? 0) > 0 })
    }
}
