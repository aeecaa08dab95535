import Conversion
import EbbClient
import EbbProtocol
import ModelFormat
import Testing
import TestKit

@Suite("Embeddings over the service", .serialized)
struct EmbedTests {
    /// A folder with the tiny BERT in it, in 8 bits.
    private func models() throws -> TemporaryFolder {
        let folder = try TinyBert().folder()
        let source = try ModelSources.open(folder.path)
        let recipe = QuantizationPlan.uniform(bits: 8, block: 32, asymmetric: true, method: .minmax)
        try Quantizer(source, calibration: nil, threads: 1).write(
            try QuantizationPlan(source, recipe), to: folder.file("tiny.ebb"))
        return folder
    }

    private func refusal(_ ebb: EbbClient, _ model: String, _ texts: [String]) async -> ClientError? {
        do { _ = try await ebb.embed(model, texts: texts) } catch { return error as? ClientError }
        return nil
    }

    @Test("Texts come back as embeddings, in order, however many")
    func texts() async throws {
        let folder = try models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let texts = (0..<700).map { String("abcdefg".prefix($0 % 7 + 1)) }
            let found = try await ebb.embed("tiny", texts: texts)
            #expect(found.count == 700 && found.allSatisfy { $0.count == 32 })
            #expect(found[0] == found[7] && found[1] == found[694])
            #expect(found[0] != found[1])
            #expect(try await ebb.embed("tiny", texts: []).isEmpty)
        }
    }

    @Test("Texts that were too long are named, however many requests they went in")
    func truncation() async throws {
        let folder = try models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let long = String(repeating: "a ", count: 1000)
            let texts = (0..<600).map { [3, 256, 599].contains($0) ? long : "b" }
            var cut: [Int] = []
            let found = try await ebb.embed("tiny", texts: texts) { cut.append($0) }
            #expect(cut == [3, 256, 599] && found.count == 600)
        }
    }

    @Test("Requests of many clients run together, and agree")
    func together() async throws {
        let folder = try models()
        try await RunningService.with(models: folder.path) { service in
            let expected = try await service.client().embed("tiny", texts: ["a b c", "d"])
            try await withThrowingTaskGroup(of: [[Float]].self) { group in
                for _ in 0..<16 {
                    group.addTask { try await service.client().embed("tiny", texts: ["a b c", "d"]) }
                }
                for try await found in group {
                    for (a, b) in zip(expected.joined(), found.joined()) { #expect(abs(a - b) < 1e-5) }
                }
            }
        }
    }

    @Test("Text is not asked of encoders, nor an embedding of decoders")
    func wrongKind() async throws {
        let folder = try models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            #expect(await refusal(ebb, "parrot", ["a"])?.kind == .refused(.unknownModel))
            let answer = try? await ebb.generate("tiny", prompt: "a").text()
            #expect(answer == nil)
            // The client still works, and the model too.
            #expect(try await ebb.embed("tiny", texts: ["a"]).count == 1)
        }
        try await RunningService.with { service in
            let ebb = try await service.client()
            let error = await refusal(ebb, "smollm2", ["a"])
            #expect(error?.kind == .refused(.badRequest) && error?.description.contains("decoder") == true)
        }
    }

    @Test("An encoder's layers change their mode while it embeds, and its status says so")
    func modes() async throws {
        let folder = try models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let before = try await ebb.embed("tiny", texts: ["hello"])
            try await ebb.setMode("tiny", .dequantized)
            try await service.until("expanded") { $0.expanded == 2 }
            let after = try await ebb.embed("tiny", texts: ["hello"])
            for (a, b) in zip(before.joined(), after.joined()) { #expect(abs(a - b) < 0.02) }
            let status = try await ebb.status()
            #expect(status.models.first?.architecture == "bert")
            try await ebb.unload("tiny")
            #expect(try await ebb.embed("tiny", texts: ["hello"]).count == 1)
        }
    }

    @Test("Embeddings are cut to the wanted values and have length 1 again; more than there are is refused")
    func dimensions() async throws {
        let folder = try models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let whole = try await ebb.embed("tiny", texts: ["a b", "c"])
            #expect(try await ebb.embed("tiny", texts: ["a b", "c"], dimensions: 32) == whole)
            let cut = try await ebb.embed("tiny", texts: ["a b", "c"], dimensions: 5)
            for (cut, whole) in zip(cut, whole) {
                let first = whole.prefix(5)
                let length = first.reduce(0) { $0 + $1 * $1 }.squareRoot()
                #expect(cut.count == 5 && zip(cut, first).allSatisfy { abs($0 - $1 / length) < 1e-6 })
            }
            let error = await #expect(throws: ClientError.self) {
                try await ebb.embed("tiny", texts: ["a"], dimensions: 33)
            }
            #expect(error?.kind == .refused(.badRequest) && error?.description.contains("32") == true)
        }
    }

    @Test("A prompt of the model stands before each text: the one that is named, the model's own, or none")
    func prompts() async throws {
        var bert = TinyBert()
        bert.files["config_sentence_transformers.json"] =
            ["prompts": ["query": "a b ", "passage": ""], "default_prompt_name": "query"] as [String: Any]
        let folder = try bert.folder()
        try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("tiny.ebb"))
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            func found(_ text: String, _ prompt: String?) async throws -> [Float] {
                try await ebb.embed("tiny", texts: [text], prompt: prompt)[0]
            }
            let plain = try await found("c", "")
            #expect(try await found("c", "passage") == plain)
            let prompted = try await found("a b c", "")
            #expect(prompted != plain)
            #expect(try await found("c", "query") == prompted)
            #expect(try await found("c", nil) == prompted)
            let error = await #expect(throws: ClientError.self) { try await found("c", "document") }
            #expect(error?.kind == .refused(.badRequest))
            #expect(error?.description.contains("passage, query") == true)
        }
    }
}
