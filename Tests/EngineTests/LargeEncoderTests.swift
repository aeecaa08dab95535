import Engine
import Foundation
import ModelFormat
import Testing
import TestKit

/// all-mpnet-base-v2 beside what sentence-transformers makes of it in float32.
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

    private func expected() throws -> [Expected.Item] {
        let url = Bundle.module.url(forResource: "Reference/all-mpnet-base-v2", withExtension: "json")
        let text = try Reference.text(url)
        return try JSONDecoder().decode(Expected.self, from: Data(text.utf8)).items
    }

    private func model() throws -> EncoderModel {
        try EncoderModel(
            try RealModel.mpnet.open(), pool: try WorkerPool(threads: 2), kernels: try Kernels.fromEnvironment())
    }

    @Test("Every text has the reference's tokens")
    func tokens() throws {
        let model = try model()
        for item in try expected() { #expect(model.tokens(item.text) == item.ids, "\(item.text)") }
    }

    /// The reference's values are rounded to 7 decimals; its sums are float32 in another order.
    @Test("Embeddings are the reference's to 1e-5")
    func embeddings() throws {
        let items = try expected()
        let found = try model().embed(items.map(\.ids))
        for (item, embedding) in zip(items, found) {
            let worst = zip(item.embedding, embedding).map { abs($0 - $1) }.max() ?? .infinity
            #expect(worst < 1e-5, "\(item.text)")
        }
    }
}
