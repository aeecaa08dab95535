import Foundation
import ModelFormat
import Quantization
import Testing
import TestKit

/// gpt-oss as it is published: `NAME_blocks` and `NAME_scales` in place of `NAME`.
@Suite("Folders of MXFP4 weights")
struct MicroFloat4FolderTests {
    private static let values: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]

    /// The model, and the experts' values [experts, rows, k] by name.
    private func made(exponents: ClosedRange<UInt8>) throws -> (model: TinyDecoder, values: [String: [Float]]) {
        var model = try TinyDecoder("gpt-oss")
        model.config["quantization_config"] = ["quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]]
        var values: [String: [Float]] = [:]
        var random = TestRandom(seed: 3)
        for tensor in model.weights.tensors where ["gate_up_proj", "down_proj"].contains(where: tensor.name.hasSuffix) {
            // Floats are stored transposed.
            let (experts, k, rows) = (tensor.shape[0], tensor.shape[1], tensor.shape[2])
            let bytes = random.bytes(experts * rows * k / 2)
            let scales = (0..<experts * rows * k / 32).map { _ in UInt8.random(in: exponents, using: &random) }
            model.weights.tensors.removeAll { $0.name == tensor.name }
            model.weights.add(tensor.name + "_blocks", "U8", [experts, rows, k / 32, 16], bytes)
            model.weights.add(tensor.name + "_scales", "U8", [experts, rows, k / 32], scales)
            values[tensor.name] = (0..<experts * rows * k).map { index in
                let byte = bytes[index / 2]
                let code = index % 2 == 0 ? byte & 15 : byte >> 4
                return Self.values[Int(code)] * Float(pow(2, Double(scales[index / 32]) - 127))
            }
        }
        return (model, values)
    }

    private func channels(_ source: EbbSource, _ name: String) throws -> (Encoding, [[Float]]) {
        let tensor = try #require(source.tensors.first { $0.name == name })
        let rows = try (0..<tensor.n).map { channel in
            var row = [Float](repeating: 0, count: tensor.k)
            try source.read(tensor, channel: channel, into: &row)
            return row
        }
        return (tensor.encoding, rows)
    }

    @Test(
        "Every value is kept in integers of 5 bits, gates and ups apart",
        arguments: [(104, 143, ScaleKind.f16), (90, 150, .f32)] as [(UInt8, UInt8, ScaleKind)])
    func exact(low: UInt8, high: UInt8, kind: ScaleKind) throws {
        let (model, values) = try made(exponents: low...high)
        let folder = try model.folder()
        try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("out.ebb"))
        let source = EbbSource(try EbbFile(path: folder.file("out.ebb")))
        let expected = Encoding.quantized(try Scheme(bits: 5, block: 32, asymmetric: false, scale: kind))
        let experts = "model.layers.1.mlp.experts"
        let (encoding, down) = try channels(source, "blk.1.ffn_down_exps.weight")
        #expect(encoding == expected)
        #expect(down.flatMap { $0 } == values["\(experts).down_proj"])
        let both = try #require(values["\(experts).gate_up_proj"])
        for (name, first) in [("ffn_gate_exps", 0), ("ffn_up_exps", 1)] {
            let (encoding, rows) = try channels(source, "blk.1.\(name).weight")
            #expect(encoding == expected)
            for (channel, row) in rows.enumerated() {
                let start = (channel * 2 + first) * row.count
                #expect(row == Array(both[start..<start + row.count]))
            }
        }
    }

    @Test("Blocks and scales that do not fit, or a scale that stands for NaN, are refused")
    func refusals() throws {
        func refusal(_ change: (inout SafetensorsBuilder.Tensor) -> Void) throws -> String {
            var model = try made(exponents: 120...130).model
            for index in model.weights.tensors.indices
            where model.weights.tensors[index].name.hasSuffix("1.mlp.experts.down_proj_scales") {
                change(&model.weights.tensors[index])
            }
            let folder = try model.folder()
            let error = #expect(throws: FormatError.self) {
                try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("out.ebb"))
            }
            return error?.description ?? ""
        }
        #expect(try refusal { $0.name += "_" }.contains("down_proj_scales"))
        #expect(try refusal { $0.shape.swapAt(0, 2) }.contains("down_proj_blocks and _scales"))
        #expect(try refusal { $0.data[5] = 255 }.contains("NaN"))
    }
}
