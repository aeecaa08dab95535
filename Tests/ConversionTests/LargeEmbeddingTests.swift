import Conversion
import Engine
import Foundation
import ModelFormat
import TestKit
import Testing

/// EmbeddingGemma in 8 bits, beside what sentence-transformers makes of its floats.
@Suite("Large encoders in memory_low", .enabled(if: RealModel.testsLarge))
struct LargeEmbeddingTests {
    private struct Expected: Decodable {
        let items: [MiniLM.Item]
    }

    /// That of the tests of its floats.
    private static func expected() throws -> [MiniLM.Item] {
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let file = tests.appendingPathComponent("EngineTests/Reference/embeddinggemma.json")
        return try JSONDecoder().decode(Expected.self, from: Data(try Reference.text(file).utf8)).items
    }

    private static func quantized(in folder: TemporaryFolder) throws -> EbbFile {
        let source = EbbSource(try RealModel.embeddinggemma.open())
        let recipe = QuantizationPlan.uniform(bits: 8, block: 32, asymmetric: true, method: .minmax)
        let quantizer = Quantizer(source, calibration: nil, threads: 2)
        try quantizer.write(try QuantizationPlan(source, recipe), to: folder.file("eight.ebb"))
        return try EbbFile(path: folder.file("eight.ebb"))
    }

    /// Weights and activations are rounded to 8 bits at every product of 24 layers and two dense heads: a mean of 0.99959
    /// (AVX2) to 0.99962 (AVX-512) was seen. 1 - cosine goes with the square of the error, so that one bit less throughout
    /// would make it four times as large, 0.9984: the bound lies between, and leaves more than twice what was seen.
    @Test("EmbeddingGemma in 8 bits keeps the reference's directions")
    func embeddingGemma() throws {
        let (folder, items) = (try TemporaryFolder(), try Self.expected())
        let found = try MiniLM.model(try Self.quantized(in: folder), expanded: false).embed(items.map(\.ids))
        let cosines = zip(items, found).map { item, embedding in
            zip(item.embedding, embedding).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        }
        let mean = cosines.reduce(0, +) / Double(cosines.count)
        print("EmbeddingGemma, 8 bit, memory_low: mean cosine \(mean), least \(cosines.min() ?? 0)")
        #expect(mean > 0.999 && mean < 1)
    }
}
