import Conversion
import Engine
import Foundation
import ModelFormat
import Quantization
import TestKit

/// MiniLM, its reference embeddings, and quantized variants of it.
enum MiniLM {
    struct Item: Decodable {
        let text: String
        let ids: [Int32]
        let embedding: [Float]
    }

    private struct File: Decodable { let items: [Item] }

    static func items() throws -> [Item] {
        let url = Bundle.module.url(forResource: "minilm", withExtension: "json", subdirectory: "Reference")
        return try JSONDecoder().decode(File.self, from: Data(try Reference.text(url).utf8)).items
    }

    static func source() throws -> EbbSource { EbbSource(try RealModel.minilm.open()) }

    /// Every second text that has words: what calibrations see.
    static func calibrationTexts() throws -> [String] {
        try items().enumerated().filter { $0.offset % 2 == 0 && !$0.element.text.isEmpty }.map(\.element.text)
    }

    static func model(_ file: EbbFile, expanded: Bool) throws -> EncoderModel {
        let kernels = try Kernels.fromEnvironment()
        let model = try EncoderModel(file, pool: try WorkerPool(threads: 2), kernels: kernels, precision: .f32)
        try model.setAll(expanded: expanded)
        return model
    }

    /// The mean cosine to the reference.
    static func cosine(_ file: EbbFile, expanded: Bool = true) throws -> Double {
        let items = try items()
        let found = try model(file, expanded: expanded).embed(items.map(\.ids))
        let cosines = zip(items, found).map { item, embedding in
            zip(item.embedding, embedding).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        }
        return cosines.reduce(0, +) / Double(cosines.count)
    }

    static func quantized(
        _ recipe: Recipe, calibration: [String]? = nil, _ folder: TemporaryFolder, name: String = "out.ebb"
    ) throws -> EbbFile {
        let source = try source()
        let quantizer = Quantizer(source, calibration: calibration, threads: 2)
        try quantizer.write(try QuantizationPlan(source, recipe), to: folder.file(name))
        return try EbbFile(path: folder.file(name))
    }

    static func uniform(
        _ bits: Int, _ method: QuantizationMethod, block: Int = 32, asymmetric: Bool = true
    ) -> Recipe {
        QuantizationPlan.uniform(bits: bits, block: block, asymmetric: asymmetric, method: method)
    }

    /// Bytes of the weights as f32.
    static func floatBytes() throws -> Double { Double(try source().floatBytes) }
}
