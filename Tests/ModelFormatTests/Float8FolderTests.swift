import Foundation
import ModelFormat
import Quantization
import Testing
import TestKit

@Suite("Folders of FP8 weights")
struct Float8FolderTests {
    private static var plain: [String: Any] {
        ["quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3"]
    }

    private static func compressed(_ strategy: String, _ change: [String: Any] = [:]) -> [String: Any] {
        let weights: [String: Any] = [
            "num_bits": 8, "type": "float", "symmetric": true, "dynamic": false, "strategy": strategy,
            "observer": "minmax",
        ]
        let group: [String: Any] = ["targets": ["Linear"], "weights": weights.merging(change) { $1 }]
        return [
            "quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
            "ignore": ["lm_head"], "config_groups": ["group_0": group],
        ]
    }

    /// A value as the format's definition has it: sign, 4 bits of exponent with a bias of 7, 3 bits of significand.
    private static func value(_ byte: UInt8) -> Double {
        let exponent = Int(byte) >> 3 & 15
        let significand = Double(byte & 7) / 8
        let size = exponent == 0 ? significand * 0x1p-6 : (1 + significand) * pow(2, Double(exponent - 7))
        return byte < 128 ? size : -size
    }

    private struct Made {
        var model: TinyDecoder
        /// The values of the layers' products.
        var values: [String: [Float]] = [:]
    }

    /// A model whose products in layers are bytes with scales: one for each `rows` x `columns`, in a tensor of that suffix.
    private func made(
        _ quantization: [String: Any], _ suffix: String, rows: Int, columns: Int, flat: Bool = false,
        type: String = "F32",
        scale: (inout TestRandom) -> Float = { Float.random(in: 0.001...0.1, using: &$0) }
    ) throws -> Made {
        var made = Made(model: try TinyDecoder("qwen3"))
        made.model.config["quantization_config"] = quantization
        var random = TestRandom(seed: 41)
        for tensor in made.model.weights.tensors where tensor.name.hasSuffix("_proj.weight") {
            let (n, k) = (tensor.shape[0], tensor.shape[1])
            let bytes = random.bytes(n * k).map { $0 & 0x7f == 0x7f ? $0 & 0x87 : $0 }
            let (rows, columns) = (min(rows, n), min(columns, k))
            let grid = [(n + rows - 1) / rows, (k + columns - 1) / columns]
            let scales = (0..<grid[0] * grid[1]).map { _ in scale(&random) }
            made.model.weights.tensors.removeAll { $0.name == tensor.name }
            made.model.weights.add(tensor.name, "F8_E4M3", tensor.shape, bytes)
            let name = String(tensor.name.dropLast("weight".count)) + suffix
            made.model.weights.add(name, flat ? [grid[0]] : grid, scales, as: type)
            made.values[tensor.name] = bytes.enumerated().map { index, byte in
                Float(Self.value(byte)) * scales[index / k / rows * grid[1] + index % k / columns]
            }
        }
        return made
    }

    private func check(_ made: Made, _ encoding: Encoding) throws {
        let folder = try made.model.folder()
        try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("out.ebb"))
        let source = EbbSource(try EbbFile(path: folder.file("out.ebb")))
        for (name, theirs) in [
            ("blk.0.attn_k", "model.layers.0.self_attn.k_proj"), ("blk.1.ffn_down", "model.layers.1.mlp.down_proj"),
        ] {
            let tensor = try #require(source.tensors.first { $0.name == "\(name).weight" })
            #expect(tensor.encoding == encoding)
            let found = try (0..<tensor.n).flatMap { channel in
                var row = [Float](repeating: 0, count: tensor.k)
                try source.read(tensor, channel: channel, into: &row)
                return row
            }
            #expect(found == made.values["\(theirs).weight"])
        }
        let norm = try #require(source.tensors.first { $0.name == "output_norm.weight" })
        #expect(norm.isVector)
    }

    private func refusal(_ model: TinyDecoder) throws -> String {
        let folder = try model.folder()
        let error = #expect(throws: FormatError.self) {
            try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("out.ebb"))
        }
        return error?.description ?? ""
    }

    @Test("Blocks, channels and whole matrices have their scales, and every value is kept")
    func scales() throws {
        let blocks = Self.plain.merging(["weight_block_size": [32, 16]]) { $1 }
        try check(try made(blocks, "weight_scale_inv", rows: 32, columns: 16), .f32)
        try check(try made(Self.plain, "weight_scale_inv", rows: 128, columns: 128), .f32)
        try check(try made(["quant_method": "fbgemm_fp8"], "weight_scale", rows: 1, columns: 4096), .f32)
        try check(try made(Self.compressed("channel"), "weight_scale", rows: 1, columns: 4096, flat: true), .f32)
        try check(try made(Self.compressed("tensor"), "weight_scale", rows: 4096, columns: 4096, flat: true), .f32)
        let structure = Self.compressed("block", ["block_structure": [16, 48]])
        try check(try made(structure, "weight_scale", rows: 16, columns: 48), .f32)
    }

    @Test("Values lie in 16 bits where those hold all of them")
    func narrow() throws {
        let powers: (inout TestRandom) -> Float = {
            Float(sign: .plus, exponent: Int.random(in: -20...4, using: &$0), significand: 1)
        }
        let blocks = Self.plain.merging(["weight_block_size": [32, 64]]) { $1 }
        try check(try made(blocks, "weight_scale_inv", rows: 32, columns: 64, scale: powers), .bf16)
        let halves: (inout TestRandom) -> Float = { Float(Int.random(in: 64...127, using: &$0) | 1) / 4096 }
        try check(try made(Self.compressed("channel"), "weight_scale", rows: 1, columns: 4096, scale: halves), .f16)
        // 8 bits of a scale and 4 of a value need 12.
        let many: (inout TestRandom) -> Float = { Float(Int.random(in: 128...255, using: &$0) | 1) / 8192 }
        try check(
            try made(Self.compressed("channel"), "weight_scale", rows: 1, columns: 4096, type: "BF16", scale: many),
            .f32)
        // As large as f16 is not, though of few bits.
        try check(try made(Self.plain, "weight_scale_inv", rows: 1, columns: 4096, scale: { _ in 65 * 16 }), .f32)
    }

    @Test("The scale of a whole matrix may be a number by itself")
    func scalar() throws {
        var made = try made(Self.plain, "weight_scale", rows: 4096, columns: 4096)
        for index in made.model.weights.tensors.indices where made.model.weights.tensors[index].name.hasSuffix("_scale")
        {
            made.model.weights.tensors[index].shape = []
        }
        try check(made, .f32)
    }

    @Test("Scales of inputs and of cached keys may be there")
    func inputs() throws {
        var made = try made(Self.plain, "weight_scale_inv", rows: 4096, columns: 4096)
        made.model.weights.add("model.layers.0.mlp.up_proj.input_scale", [1], [Float(2)])
        made.model.weights.add("model.layers.0.self_attn.k_proj.k_scale", [1], [Float(2)])
        try check(made, .f32)
        made.model.weights.add("model.layers.0.mlp.up_proj.output_scale", [1], [Float(2)])
        #expect(try refusal(made.model).contains("up_proj.output_scale"))
    }

    @Test(
        "Scales that are missing or do not fit, NaN, and configurations that mean something else, are refused by name")
    func refusals() throws {
        var model = try made(Self.plain, "other", rows: 4096, columns: 4096).model
        #expect(try refusal(model).contains("weight_scale is missing"))
        model = try made(Self.plain, "weight_scale_inv", rows: 5, columns: 7).model
        #expect(try refusal(model).contains("scales are 1"))
        model = try made(Self.plain, "weight_scale_inv", rows: 4096, columns: 4096).model
        model.config["quantization_config"] = nil
        #expect(try refusal(model).contains("F8_E4M3"))
        model.config["quantization_config"] = Self.plain.merging(["fmt": "e5m2"]) { $1 }
        #expect(try refusal(model).contains("e5m2"))
        let sparse: [String: Any] = ["sparsity_config": ["format": "sparse-24-bitmask"]]
        model.config["quantization_config"] = Self.compressed("tensor").merging(sparse) { $1 }
        #expect(try refusal(model).contains("sparse-24-bitmask"))
        model.config["quantization_config"] = ["quant_method": "bitsandbytes"]
        #expect(try refusal(model).contains("bitsandbytes"))
        for (key, value) in [("num_bits", 4), ("strategy", "group"), ("type", "int"), ("parrot", 1)] as [(String, Any)]
        {
            model.config["quantization_config"] = Self.compressed("tensor", [key: value])
            #expect(try refusal(model).contains(key))
        }
        model = try made(Self.plain, "weight_scale_inv", rows: 4096, columns: 4096).model
        for index in model.weights.tensors.indices where model.weights.tensors[index].type == "F8_E4M3" {
            model.weights.tensors[index].data[3] = 0xff
        }
        #expect(try refusal(model).contains("NaN"))
    }
}
