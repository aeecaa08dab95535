import Conversion
import Engine
import ModelFormat
import Quantization
import Testing
import TestKit

@Suite("Mixed widths", .serialized)
struct MixedPrecisionTests {
    private struct Setup {
        let source: EbbSource
        let reference: ReferenceOutputs
        let search: MixedPrecision
    }

    private static func reference(_ model: RunnableModel) throws -> ReferenceOutputs {
        try ReferenceOutputs(model, texts: try MiniLM.calibrationTexts())
    }

    /// Measured once: it takes a run of all texts for each matrix.
    private static let sensitivity = Result {
        let source = try MiniLM.source()
        let model = try RunnableModel(source, expanded: true, threads: 2)
        let names = try QuantizationPlan(source, MiniLM.uniform(4, .hqq)).quantizedNames
        return try Sensitivity(
            source, model: model, reference: try reference(model), names: names, block: 32, asymmetric: true)
    }

    private func setup() throws -> Setup {
        let source = try MiniLM.source()
        let reference = try Self.reference(try RunnableModel(source, expanded: true, threads: 2))
        let sensitivity = try Self.sensitivity.get()
        let quantizer = Quantizer(source, calibration: nil, threads: 2)
        let search = MixedPrecision(
            source, sensitivity, reference: reference, method: .hqq, keep: [], threads: 2
        ) { plan, path in try quantizer.write(plan, to: path) }
        return Setup(source: source, reference: reference, search: search)
    }

    private func loss(_ setup: Setup, _ recipe: Recipe) throws -> (loss: Double, bytes: Int) {
        let folder = try TemporaryFolder()
        let file = try MiniLM.quantized(recipe, folder)
        let model = try RunnableModel(EbbSource(file), expanded: false, threads: 2)
        return (try setup.reference.loss(of: model).value, file.byteCount)
    }

    @Test("At a uniform recipe's size, mixed widths lose no more, and here much less")
    func againstUniform() throws {
        let setup = try setup()
        for bits in [3, 4] {
            let uniform = try loss(setup, MiniLM.uniform(bits, .hqq))
            let choice = try setup.search.choose(.size(uniform.bytes))
            let mixed = try loss(setup, choice.recipe)
            #expect(mixed.bytes <= uniform.bytes)
            #expect(mixed.loss <= uniform.loss * 0.9, "\(bits) bits: \(mixed.loss) against \(uniform.loss)")
        }
    }

    @Test("A loss is kept, by a file that is smaller than the uniform one that keeps it")
    func lossGoal() throws {
        let setup = try setup()
        let choice = try setup.search.choose(.loss(0.01))
        #expect(choice.loss.value <= 0.01)
        var (bits, uniform) = (2, try loss(setup, MiniLM.uniform(2, .hqq)))
        while uniform.loss > 0.01, bits < 8 {
            bits += 1
            uniform = try loss(setup, MiniLM.uniform(bits, .hqq))
        }
        #expect(choice.bytes <= uniform.bytes)
    }

    @Test("What cannot be reached is refused, with what can")
    func impossible() throws {
        let setup = try setup()
        let error = #expect(throws: FormatError.self) { try setup.search.choose(.size(1_000_000)) }
        #expect(error?.description.contains("2 bits") == true)
        #expect(throws: FormatError.self) { try setup.search.choose(.loss(1e-9)) }
    }
}
