import Engine
import Foundation
import ModelFormat
import Testing
import TestKit

/// all-mpnet-base-v2 and EmbeddingGemma beside what sentence-transformers makes of them in float32.
@Suite("Large encoders", .enabled(if: RealModel.testsLarge))
struct LargeEncoderTests {
    private struct Expected: Decodable {
        struct Item: Decodable {
            let text: String
            let ids: [Int32]
            let embedding: [Float]
        }
        let items: [Item]
    }

    private func expected(_ model: RealModel) throws -> [Expected.Item] {
        let name = model == .mpnet ? "all-mpnet-base-v2" : "embeddinggemma"
        let url = Bundle.module.url(forResource: "Reference/\(name)", withExtension: "json")
        let text = try Reference.text(url)
        return try JSONDecoder().decode(Expected.self, from: Data(text.utf8)).items
    }

    private func model(_ model: RealModel) throws -> EncoderModel {
        try EncoderModel(
            try model.open(), pool: try WorkerPool(threads: 2), kernels: try Kernels.fromEnvironment())
    }

    static let models = [RealModel.mpnet, .embeddinggemma]

    @Test("Every text has the reference's tokens", arguments: models)
    func tokens(which: RealModel) throws {
        let model = try model(which)
        for item in try expected(which) { #expect(model.tokens(item.text) == item.ids, "\(item.text)") }
    }

    private func worst(_ found: [[Float]], _ items: [Expected.Item]) -> Float {
        zip(found, items).flatMap { zip($0, $1.embedding).map { abs($0 - $1) } }.max() ?? .infinity
    }

    /// The reference's values are rounded to 7 decimals; its sums are float32 in another order.
    @Test("Embeddings are the reference's to 1e-5", arguments: models)
    func embeddings(which: RealModel) throws {
        let items = try expected(which)
        let worst = worst(try model(which).embed(items.map(\.ids)), items)
        #expect(worst < 1e-5, "\(worst)")
    }
}
