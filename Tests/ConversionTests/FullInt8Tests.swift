import Conversion
import Engine
import Foundation
import ModelFormat
import Quantization
import Testing
import TestKit

@Suite("Full-graph INT8")
struct FullInt8Tests {
    private func calibration() throws -> Calibration {
        try Calibration(
            try RunnableModel(try MiniLM.source(), expanded: true, threads: 2), texts: try MiniLM.calibrationTexts())
    }

    private func write(_ int8: FullInt8, _ folder: TemporaryFolder) throws -> EbbFile {
        _ = try Quantizer(try MiniLM.source(), calibration: nil, threads: 2).write(int8, to: folder.file("int8.ebb"))
        return try EbbFile(path: folder.file("int8.ebb"))
    }

    @Test("Calibrated, MiniLM keeps a mean cosine over 0.99, and expanded more")
    func cosine() throws {
        let folder = try TemporaryFolder()
        let file = try write(try FullInt8(try MiniLM.source(), try calibration(), range: .max), folder)
        #expect(try MiniLM.cosine(file, expanded: false) > 0.99)
        #expect(try MiniLM.cosine(file, expanded: true) > 0.997)
        #expect(file.tensors["blk.0.attention_scales"] != nil)
    }

    @Test("Every range and SmoothQuant's exponent give a model that runs", arguments: RangeMethod.allCases)
    func ranges(range: RangeMethod) throws {
        let folder = try TemporaryFolder()
        let calibration = try calibration()
        for smoothing in [FullInt8.Smoothing.none, .exponent(0.5)] {
            let int8 = try FullInt8(try MiniLM.source(), calibration, range: range, smoothing: smoothing)
            #expect(int8.columnFactors.isEmpty == (smoothing == .none))
            #expect(try MiniLM.cosine(try write(int8, folder), expanded: false) > 0.8, "\(smoothing)")
        }
    }

    @Test("A calibration comes back from its file, and names every layer's inputs")
    func file() throws {
        let folder = try TemporaryFolder()
        let calibration = try calibration()
        try calibration.write(to: folder.file("c.json"))
        let read = try Calibration.read(folder.file("c.json"))
        #expect(read.inputs.map(\.weights) == calibration.inputs.map(\.weights))
        #expect(read.inputs.count == 6 * 4 && read.attention.count == 6)
        #expect(read.inputs[0].weights == ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"])
        #expect(read.inputs.allSatisfy { Set($0.ranges.keys) == Set(RangeMethod.allCases.map(\.rawValue)) })
    }

    @Test("A calibration of another model is refused")
    func otherModel() throws {
        let folder = try TinyBert().folder()
        let calibration = try calibration()
        #expect(throws: FormatError.self) {
            try FullInt8(try ModelSources.open(folder.path), calibration, range: .max)
        }
    }

    @Test("Decoders run with fixed scales too, and stay near their source")
    func decoder() throws {
        let folder = try TemporaryFolder()
        let source = EbbSource(try RealModel.smollm2.open())
        let model = try RunnableModel(source, expanded: true, threads: 2)
        let texts = Array(CalibrationTexts.standard.prefix(8))
        let int8 = try FullInt8(source, try Calibration(model, texts: texts), range: .max)
        _ = try Quantizer(source, calibration: nil, threads: 2).write(int8, to: folder.file("int8.ebb"))
        let reference = try ReferenceOutputs(model, texts: Array(CalibrationTexts.standard.suffix(3)))
        let found = try RunnableModel(
            EbbSource(try EbbFile(path: folder.file("int8.ebb"))), expanded: false, threads: 2)
        let loss = try reference.loss(of: found).value
        #expect(loss > 0 && loss < 0.5)
    }
}
