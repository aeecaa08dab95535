import Conversion
import Engine
import ModelFormat
import Quantization
import Testing
import TestKit

@Suite("MiniLM against its reference")
struct ExactnessTests {
    private struct Case: Sendable, CustomStringConvertible {
        let bits, block: Int
        let method: QuantizationMethod
        /// Of an independent plain implementation (the issue that asked for the quantizer has the table).
        let cosine: Double
        var description: String { "\(bits) bit, block \(block), \(method.rawValue)" }
    }

    @Test("Unquantized, embeddings equal the reference's to 1e-5, in every instruction set")
    func unquantized() throws {
        let items = try MiniLM.items()
        let file = try RealModel.minilm.open()
        for isa in Kernels.available.map(\.name) {
            guard let kernels = try? Kernels.named(isa) else { continue }
            // Plain C is slow: every fourth text will do.
            let some = isa == "plain" ? items.enumerated().filter { $0.offset % 4 == 0 }.map(\.element) : items
            let model = try EncoderModel(file, pool: try WorkerPool(threads: 2), kernels: kernels, precision: .f32)
            for (item, found) in zip(some, try model.embed(some.map(\.ids))) {
                let worst = zip(item.embedding, found).map { abs($0 - $1) }.max() ?? 1
                #expect(worst < 1e-5, "\(isa): \(item.text.prefix(40))")
            }
        }
    }

    @Test("Texts become the reference's tokens, cut to 256")
    func tokens() throws {
        let model = try MiniLM.model(try RealModel.minilm.open(), expanded: false)
        for item in try MiniLM.items() { #expect(model.tokens(item.text) == item.ids) }
    }

    @Test("Stored as f16, the cosine is over 0.99999 and the file half as large")
    func halves() throws {
        let folder = try TemporaryFolder()
        let file = try MiniLM.quantized(QuantizationPlan.halves, folder)
        #expect(try MiniLM.cosine(file, expanded: false) > 0.99999)
        let floats = try MiniLM.floatBytes()
        #expect(Double(file.byteCount) < 0.51 * floats)
    }

    private static let cases = [
        Case(bits: 8, block: 32, method: .minmax, cosine: 0.9999),
        Case(bits: 6, block: 32, method: .minmax, cosine: 0.9981),
        Case(bits: 5, block: 32, method: .minmax, cosine: 0.9918),
        Case(bits: 4, block: 32, method: .minmax, cosine: 0.9654),
        Case(bits: 3, block: 32, method: .minmax, cosine: 0.8482),
        Case(bits: 2, block: 32, method: .minmax, cosine: 0.2683),
        Case(bits: 4, block: 128, method: .minmax, cosine: 0.9302),
        Case(bits: 4, block: -1, method: .minmax, cosine: 0.3240),
        Case(bits: 8, block: 32, method: .hqq, cosine: 0.9999),
        Case(bits: 6, block: 32, method: .hqq, cosine: 0.9983),
        Case(bits: 5, block: 32, method: .hqq, cosine: 0.9930),
        Case(bits: 4, block: 32, method: .hqq, cosine: 0.9688),
        Case(bits: 3, block: 32, method: .hqq, cosine: 0.8706),
        Case(bits: 2, block: 32, method: .hqq, cosine: 0.3754),
        Case(bits: 4, block: 128, method: .hqq, cosine: 0.9447),
        Case(bits: 4, block: -1, method: .hqq, cosine: 0.9106),
        Case(bits: 4, block: 32, method: .gptq, cosine: 0.9863),
        Case(bits: 3, block: 32, method: .gptq, cosine: 0.9482),
        Case(bits: 2, block: 32, method: .gptq, cosine: 0.8009),
    ]

    @Test("Quantized, the cosine is the independent implementation's or better, in both modes", arguments: cases)
    private func quantized(expected: Case) throws {
        let folder = try TemporaryFolder()
        let file = try MiniLM.quantized(
            MiniLM.uniform(expected.bits, expected.method, block: expected.block),
            calibration: expected.method == .gptq ? try MiniLM.calibrationTexts() : nil, folder)
        let exact = try MiniLM.cosine(file, expanded: true)
        #expect(exact >= expected.cosine - 0.002)
        #expect(try MiniLM.cosine(file, expanded: false) >= exact - 0.005)
    }

    @Test("All widths run in both modes, symmetric and in all blocks", arguments: [2, 3, 4, 5, 6, 7, 8])
    func widths(bits: Int) throws {
        let folder = try TemporaryFolder()
        for block in [16, 64, 256] {
            let file = try MiniLM.quantized(MiniLM.uniform(bits, .mse, block: block, asymmetric: false), folder)
            let exact = try MiniLM.cosine(file, expanded: true)
            #expect(exact > [0.2, 0.65, 0.93, 0.98, 0.99, 0.998, 0.999][bits - 2], "block \(block): \(exact)")
            let low = try MiniLM.cosine(file, expanded: false)
            #expect(abs(low - exact) < 0.005, "block \(block)")
        }
    }

    @Test("8-bit symmetric files are at most 27 % and 4-bit ones at most 16 % of fp32, embeddings included")
    func sizes() throws {
        let folder = try TemporaryFolder()
        let fp32 = Double(try ModelSources.open(try RealModel.minilm.path).byteCount)
        let eight = try MiniLM.quantized(MiniLM.uniform(8, .minmax, block: 32, asymmetric: false), folder)
        #expect(Double(eight.byteCount) <= 0.27 * fp32)
        let four = try MiniLM.quantized(MiniLM.uniform(4, .minmax, block: 32), folder)
        #expect(Double(four.byteCount) <= 0.16 * fp32)
    }

    @Test("HQQ has a smaller weight error than min/max on every layer, and a better cosine", arguments: [2, 3, 4])
    func hqqBeatsMinMax(bits: Int) throws {
        let folder = try TemporaryFolder()
        let source = try MiniLM.source()
        let texts = Array(try MiniLM.items().map(\.text).filter { !$0.isEmpty }.prefix(12))
        let reference = try ReferenceOutputs(try RunnableModel(source, expanded: true, threads: 2), texts: texts)
        let found = try [QuantizationMethod.minmax, .hqq].map { method in
            let file = try MiniLM.quantized(MiniLM.uniform(bits, method, block: 32), folder, name: "\(method).ebb")
            return try Evaluation(file, against: source, reference, expanded: true, threads: 2)
        }
        #expect(found[1].loss.value < found[0].loss.value)
        for (plain, hqq) in zip(found[0].matrices, found[1].matrices) where plain.sqnr.isFinite {
            #expect(hqq.sqnr > plain.sqnr, "\(plain.name)")
        }
    }
}
