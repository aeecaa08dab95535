import EbbClient
import EbbProtocol
import Engine
import ModelFormat
import TestKit
import Testing

@Suite("Reranking over the service", .serialized)
struct RerankTests {
    /// A folder with a tiny reranker and a tiny embedder.
    private func models() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        try TinyModels.addBert("embedder", to: folder)
        var bert = TinyBert()
        bert.becomeReranker()
        let parts = try bert.folder()
        try ModelImport(try ModelSources.open(parts.path)).write(to: folder.file("ranker.ebb"))
        return folder
    }

    private func error(_ body: () async throws -> Void) async -> ClientError? {
        do { try await body() } catch { return error as? ClientError }
        return nil
    }

    @Test("Documents get the scores that the engine gives their pairs, in their order, however many")
    func scores() async throws {
        let folder = try models()
        let model = try EncoderModel(
            try EbbFile(path: folder.file("ranker.ebb")), pool: try WorkerPool(threads: 1),
            kernels: try Kernels.fromEnvironment())
        let documents = (0..<600).map { String("abcdefghijk".prefix($0 % 11 + 1)) + " c d" }
        let expected = try model.score(documents.map { model.pair("a query", $0) })
        #expect(Set(expected).count == 11)
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            #expect(try await ebb.rerank("ranker", query: "a query", documents: documents) == expected)
            #expect(try await ebb.rerank("ranker", query: "a query", documents: []).isEmpty)
            let other = try await ebb.rerank("ranker", query: "b", documents: documents)
            #expect(other != expected)
        }
    }

    @Test("A long document is cut behind its query, and an empty query or document is none less")
    func long() async throws {
        let folder = try models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let long = String(repeating: "a b c ", count: 1000)
            var cut: [Int] = []
            let found = try await ebb.rerank("ranker", query: "q", documents: [long, long + "x", "", "a"]) {
                cut.append($0)
            }
            #expect(cut == [0, 1])
            #expect(found.allSatisfy(\.isFinite) && found[0] == found[1] && found[2] != found[3])
            #expect(try await ebb.rerank("ranker", query: "", documents: ["a"])[0].isFinite)
            #expect(try await ebb.rerank("ranker", query: long, documents: ["a"])[0].isFinite)
        }
    }

    @Test("Rerankers make no embeddings, and other models no scores")
    func wrongKind() async throws {
        let folder = try models()
        try TinyModels.addLlama("decoder", to: folder)
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let embedding = await error { _ = try await ebb.embed("ranker", texts: ["a"]) }
            #expect(embedding?.kind == .refused(.badRequest) && embedding?.description.contains("rerank") == true)
            for name in ["embedder", "decoder"] {
                let score = await error { _ = try await ebb.rerank(name, query: "q", documents: ["a"]) }
                #expect(score?.kind == .refused(.badRequest), "\(name)")
            }
            let unknown = await error { _ = try await ebb.rerank("none", query: "q", documents: ["a"]) }
            #expect(unknown?.kind == .refused(.unknownModel))
            #expect(try await ebb.embed("embedder", texts: ["a"]).count == 1)
        }
    }
}
