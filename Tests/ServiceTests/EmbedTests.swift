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
}
