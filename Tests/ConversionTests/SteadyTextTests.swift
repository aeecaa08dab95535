import Conversion
import Engine
import ModelFormat
import Quantization
import TestKit
import Testing

@Suite("Encoders' texts in every format")
struct SteadyTextTests {
    private static let schemes: [(bits: Int, block: Int, asymmetric: Bool)] = (2...8).flatMap { bits in
        [16, 32, 64, -1].flatMap { block in [(bits, block, false), (bits, block, true)] }
    }

    @Test("A text has the same bits alone and with others, whatever the weights' format", arguments: schemes)
    func bits(bits: Int, block: Int, asymmetric: Bool) throws {
        let folder = try TinyBert().folder()
        let source = try ModelSources.open(folder.path)
        let recipe = QuantizationPlan.uniform(bits: bits, block: block, asymmetric: asymmetric, method: .minmax)
        try Quantizer(source, calibration: nil, threads: 1).write(
            try QuantizationPlan(source, recipe), to: folder.file("tiny.ebb"))
        var random = TestRandom(seed: 3)
        let texts = [2, 7, 33, 1, 16, 60, 3, 8, 9, 12, 15, 31].map { length in
            (0..<length).map { _ in Int32.random(in: 0..<56, using: &random) }
        }
        for name in Kernels.available.map(\.name) {
            let model = try EncoderModel(
                try EbbFile(path: folder.file("tiny.ebb")), pool: try WorkerPool(threads: 1),
                kernels: try Kernels.named(name))
            let together = try model.embed(texts)
            for (text, embedding) in zip(texts, together) {
                let isEqual = try model.embed([text])[0] == embedding
                #expect(isEqual, "\(text.count) tokens, \(name)")
            }
        }
    }
}
