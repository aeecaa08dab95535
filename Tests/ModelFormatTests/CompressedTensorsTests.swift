import Foundation
@testable import ModelFormat
import Quantization
import Testing
import TestKit

/// Weights as compressed-tensors itself packs them, in three of its versions: Tests/TensorTypes/compressed.py.
private struct References: Decodable {
    struct Case: Decodable {
        struct Weights: Codable {
            let num_bits, group_size: Int
            let strategy, type: String
            let symmetric, dynamic: Bool
            let actorder: String?
        }
        struct Stored: Decodable {
            let type: String
            let shape: [Int]
            let data: Data
        }
        let weights: Weights
        let tensors: [String: Stored]
        let values: Data
    }

    static func load() throws -> [(version: String, cases: [Case])] {
        let url = Bundle.module.url(forResource: "compressed-tensors", withExtension: "json", subdirectory: "Reference")
        return try JSONDecoder().decode([String: [Case]].self, from: Data(try Reference.text(url).utf8))
            .sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }
}

@Suite("Weights that compressed-tensors has packed")
struct CompressedTensorsTests {
    private func matrix(_ reference: References.Case) throws -> PackedMatrix {
        var builder = SafetensorsBuilder()
        for (name, tensor) in reference.tensors {
            builder.add("m." + name, tensor.type, tensor.shape, Array(tensor.data))
        }
        let folder = try TemporaryFolder()
        try folder.write("model.safetensors", try builder.build())
        let node: JSONNode = try JSONReader.read(
            Array(try JSONEncoder().encode(reference.weights)), uniqueKeys: true, depthLimit: 8)
        let settings = FolderSettings("config.json", try #require(node.object))
        let format = try PackedFormat(compressed: settings)
        try settings.finish()
        let tensors = CheckpointTensors(try FolderWeights(folder: folder.path)) { [$0] }
        let matrix = try PackedMatrix("m", format, tensors)
        try tensors.finish("the test") { _ in false }
        return matrix
    }

    @Test("Integers and values are those of the program, with and without zero points and an order of columns")
    func references() throws {
        let versions = try References.load()
        #expect(versions.map(\.version) == ["0.12.2", "0.20.0", "0.9.1"])
        for (version, cases) in versions {
            for reference in cases {
                let matrix = try matrix(reference)
                let expected = reference.values.withUnsafeBytes { bytes in
                    (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
                }
                let k = matrix.k
                #expect(expected.count == matrix.rows * k)
                guard case .quantized(let scheme) = matrix.encoding else {
                    Issue.record("\(version): \(matrix.encoding.summary)")
                    continue
                }
                #expect(scheme.bits == reference.weights.num_bits && scheme.scale == .f16)
                #expect(scheme.block == reference.weights.group_size)
                #expect(scheme.asymmetric == !reference.weights.symmetric)
                #expect(matrix.inputOrder.isEmpty == (reference.weights.actorder == nil))
                let code = ChannelCode(scheme: scheme, k: k)
                var (values, coded) = ([Float](repeating: 0, count: k), [Float](repeating: 0, count: k))
                for row in 0..<matrix.rows {
                    values.withUnsafeMutableBufferPointer { out in
                        if let base = out.baseAddress { matrix.read(row: row, into: base) }
                    }
                    #expect(values == Array(expected[row * k..<(row + 1) * k]), "\(version), row \(row)")
                    code.clear()
                    matrix.code(row: row, into: code)
                    coded.withUnsafeMutableBufferPointer { out in
                        if let base = out.baseAddress { code.dequantize(into: base) }
                    }
                    let order = matrix.inputOrder.isEmpty ? Array(0..<k) : matrix.inputOrder.map(Int.init)
                    #expect(coded == order.map { values[$0] }, "\(version), row \(row)")
                }
            }
        }
    }
}
