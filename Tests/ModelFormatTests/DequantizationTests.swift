import CKernels
import Foundation
import ModelFormat
import Testing
import TestKit

@Suite("Import keeps values")
struct DequantizationTests {
    private struct Block: Decodable {
        let hex: String
        let values: [Float]
    }

    private static let types: [String: UInt32] = [
        "F16": 1, "BF16": 30, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12,
        "Q5_K": 13,
        "Q6_K": 14,
    ]

    private static func bytes(_ hex: String) -> [UInt8] {
        let digits = Array(hex.utf8)
        return stride(from: 0, to: digits.count, by: 2).compactMap {
            UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)
        }
    }

    @Test("Every ggml type dequantizes exactly as ggml does", arguments: types.keys.sorted())
    func equalsReference(type: String) throws {
        let url = Bundle.module.url(forResource: "dequant", withExtension: "json", subdirectory: "Reference")
        let all = try JSONDecoder().decode([String: [Block]].self, from: Data(try Reference.text(url).utf8))
        let blocks = try #require(all[type])
        let width = blocks[0].values.count
        let number = try #require(Self.types[type])
        // Two rows each: a tile with channels that lie apart, and one that is not full.
        let tensor = GGUFBuilder.Tensor(
            "w", type: number, dimensions: [UInt64(width), UInt64(blocks.count)],
            data: blocks.flatMap { Self.bytes($0.hex) })
        let folder = try TemporaryFolder()
        let source = try folder.write(
            "in.gguf", GGUFBuilder([("general.architecture", .string("test"))], [tensor]).build())
        try ModelImport(GGUFSource(try GGUFFile(path: source))).write(to: folder.file("out.ebb"))
        let file = try EbbFile(path: folder.file("out.ebb"))
        var matrix = try #require(file.matrix("w"))
        for (channel, block) in blocks.enumerated() {
            var row = [Float](repeating: .nan, count: width)
            ebb_dequantize_channel(&matrix, UInt32(channel), &row)
            #expect(row == block.values, "block \(channel)")
        }
        try file.verify()
    }

    @Test("The container is at most 5 % larger than the GGUF", arguments: [RealModel.smollm2, .qwen2, .gemma3])
    func containerIsSmall(model: RealModel) throws {
        let source = try GGUFFile(path: try model.path)
        let file = try model.open()
        #expect(Double(file.byteCount) <= 1.05 * Double(source.byteCount))
    }
}
