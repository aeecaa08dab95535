import Engine
import TestKit
import Testing

@testable import Service

@Suite("Reproducible requests")
struct ReproducibleTests {
    /// What a request's text is when nothing else happens.
    private func alone(_ model: HostedTestModel, _ request: GenerationRequest) async throws -> String {
        let handle = GenerationHandle()
        try model.hosted.submit(request, handle) {}
        model.runAll()
        return await handle.answer().text
    }

    private func expandOrDrop(_ hosted: HostedDecoder, _ layer: Int) throws {
        if hosted.model.isExpanded(layer) { return hosted.drop(layer, pressure: 0) }
        let work = try hosted.model.expansion(of: layer)
        while true {
            if let expanded = work.advance(hosted.model.pool) { return hosted.install(expanded) }
        }
    }

    /// The texts of requests while layers change their mode, others come and go, and the cache is compacted.
    private func disturbed(
        _ model: HostedTestModel, _ wanted: [GenerationRequest], vocabulary: Int32, _ random: inout TestRandom
    ) async throws -> [String] {
        let hosted = model.hosted
        var handles: [GenerationHandle] = []
        var others: [GenerationHandle] = []
        var left = wanted
        while !left.isEmpty || handles.count > 0 && hosted.activeRequests > 0 {
            if !left.isEmpty, Int.random(in: 0..<4, using: &random) == 0 {
                let handle = GenerationHandle()
                try hosted.submit(left.removeFirst(), handle) {}
                handles.append(handle)
            }
            if !left.isEmpty, Int.random(in: 0..<4, using: &random) == 0 {
                let prompt = (0..<Int.random(in: 1...150, using: &random)).map { _ in
                    Int32.random(in: 3..<vocabulary, using: &random)
                }
                let handle = GenerationHandle()
                try hosted.submit(
                    HostedTestModel.request(
                        prompt, tokens: Int.random(in: 1...30, using: &random),
                        connection: .random(in: 1...4, using: &random), seed: Bool.random(using: &random) ? 3 : nil),
                    handle
                ) {}
                others.append(handle)
            }
            if Int.random(in: 0..<3, using: &random) == 0 {
                try expandOrDrop(hosted, Int.random(in: 0..<hosted.model.layerCount, using: &random))
            }
            if Int.random(in: 0..<4, using: &random) == 0 { _ = hosted.compactKV(blocks: 8) }
            if Int.random(in: 0..<8, using: &random) == 0 { others.randomElement(using: &random)?.cancel() }
            if Int.random(in: 0..<16, using: &random) == 0 { _ = hosted.dropPrefixes() }
            model.turn()
        }
        var texts: [String] = []
        for handle in handles { texts.append(await handle.answer().text) }
        return texts
    }

    @Test(
        "Equal seeds give equal texts whatever layers, batches, prefixes and the cache do",
        arguments: HostedTestModel.Kind.allCases)
    func tiny(kind: HostedTestModel.Kind) async throws {
        let model = try HostedTestModel(kind, quantizes: true, prefixBytes: 1 << 30)
        var random = TestRandom(seed: 21)
        let requests = (0..<3).map { index in
            let prompt = (0..<(40 + 50 * index)).map { _ in Int32.random(in: 3..<250, using: &random) }
            return HostedTestModel.request(prompt, tokens: 60, seed: UInt64(index))
        }
        var expected: [String] = []
        for request in requests { expected.append(try await alone(model, request)) }
        #expect(Set(expected).count == 3)
        for _ in 0..<150 {
            // Twice each: the second time some of the prompt is kept.
            let found = try await disturbed(model, requests + requests, vocabulary: 250, &random)
            #expect(found == expected + expected)
        }
    }

    @Test("The same with a real model")
    func smollm2() async throws {
        let file = try RealModel.smollm2.open()
        let model = try HostedTestModel(file, try TemporaryFolder(), prefixBytes: 64 << 20, contextLimit: 512)
        let prompt = model.hosted.decoder.tokenizer.encode(
            String(repeating: "The sea was calm that day. ", count: 12) + "My favourite", addSpecial: true,
            parseSpecial: false)
        let request = HostedTestModel.request(prompt, tokens: 24, seed: 7)
        let expected = try await alone(model, request)
        var random = TestRandom(seed: 4)
        for _ in 0..<4 {
            #expect(
                try await disturbed(model, [request, request], vocabulary: 40_000, &random) == [expected, expected])
        }
    }

    @Test("Of a model that is pinned a reproducible request computes in the pin's mode, and waits until all of it is")
    func pinned() async throws {
        let model = try HostedTestModel(quantizes: true)
        model.hosted.wish = .dequantized
        let handle = GenerationHandle()
        try model.hosted.submit(HostedTestModel.request([5, 6], tokens: 3, seed: 1), handle) {}
        for layer in 0..<model.hosted.model.layerCount {
            model.turn()
            #expect(model.hosted.steps == 0)
            try expandOrDrop(model.hosted, layer)
        }
        model.runAll()
        #expect(await handle.answer().summary?.generatedTokens == 3)
        #expect(!model.hosted.model.isBypassed)
    }
}
