import Conversion
import ModelFormat
import TestKit
import Testing

@Suite("What rerankers lose")
struct RerankerLossTests {
    private func source() throws -> (any ModelSource, TemporaryFolder) {
        var bert = TinyBert()
        bert.becomeReranker()
        let folder = try bert.folder()
        return (try ModelSources.open(folder.path), folder)
    }

    private func loss(bits: Int, _ source: any ModelSource, _ reference: ReferenceOutputs) throws -> OutputLoss {
        let folder = try TemporaryFolder()
        let recipe = QuantizationPlan.uniform(bits: bits, block: 32, asymmetric: true, method: .minmax)
        try Quantizer(source, calibration: nil, threads: 1).write(
            try QuantizationPlan(source, recipe), to: folder.file("small.ebb"))
        let file = try EbbFile(path: folder.file("small.ebb"))
        return try reference.loss(of: try RunnableModel(EbbSource(file), expanded: false, threads: 1))
    }

    @Test("It is measured by the correlation of the scores of pairs of texts, and grows with fewer bits")
    func correlation() throws {
        let (source, folder) = try source()
        defer { withExtendedLifetime(folder) {} }
        let reference = try ReferenceOutputs(
            try RunnableModel(source, expanded: true, threads: 1), texts: ["a b", "c", "d e f", "g h", "i"])
        let (fine, coarse) = (try loss(bits: 8, source, reference), try loss(bits: 2, source, reference))
        guard case .scores(let pairs, let correlation, let error) = fine else { return #expect(Bool(false)) }
        #expect(pairs == 15 && correlation > 0.99 && error > 0 && error < 0.2)
        #expect(fine.value < coarse.value)
    }

    @Test("Advice is given, and the same model has lost nothing")
    func advice() throws {
        let (source, folder) = try source()
        defer { withExtendedLifetime(folder) {} }
        let advice = try Advice(source, memory: 1 << 30, priority: .accuracy, calibration: nil, threads: 1)
        #expect(advice.reasons.contains { $0.contains("correlation of scores") })
        let model = try RunnableModel(source, expanded: true, threads: 1)
        let same = try ReferenceOutputs(model, texts: ["a b", "c"]).loss(of: model)
        #expect(same.value == 0)
    }
}
