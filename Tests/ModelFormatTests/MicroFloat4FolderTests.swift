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

    /// The same model as llama.cpp's converter writes it: blocks of an exponent and 16 bytes, with the first half of the
    /// values in their low bits.
    private func gguf(_ model: TinyDecoder) throws -> [UInt8] {
        let stored = Dictionary(uniqueKeysWithValues: model.weights.tensors.map { ($0.name, $0) })
        func packed(_ name: String, _ theirs: String, first: Int, step: Int) throws -> GGUFBuilder.Tensor {
            let blocks = try #require(stored[theirs + "_blocks"])
            let scales = try #require(stored[theirs + "_scales"])
            let (experts, rows, count) = (blocks.shape[0], blocks.shape[1], blocks.shape[2])
            var data: [UInt8] = []
            for row in 0..<experts * rows where row % step == first {
                for block in row * count..<(row + 1) * count {
                    let codes = blocks.data[block * 16..<block * 16 + 16].flatMap { [$0 & 15, $0 >> 4] }
                    data.append(scales.data[block])
                    data += (0..<16).map { codes[$0] | codes[$0 + 16] << 4 }
                }
            }
            let dimensions = [UInt64(count * 32), UInt64(rows / step), UInt64(experts)]
            return .init(name, type: 39, dimensions: dimensions, data: data)
        }
        let tensors = try (0..<4).flatMap { layer in
            let (ours, experts) = ("blk.\(layer).ffn", "model.layers.\(layer).mlp.experts")
            return [
                try packed("\(ours)_gate_exps.weight", "\(experts).gate_up_proj", first: 0, step: 2),
                try packed("\(ours)_up_exps.weight", "\(experts).gate_up_proj", first: 1, step: 2),
                try packed("\(ours)_down_exps.weight", "\(experts).down_proj", first: 0, step: 1),
            ]
        }
        return try model.gguf { builder in
            for tensor in tensors {
                builder.tensors.removeAll { $0.name == tensor.name }
                builder.tensors.append(tensor)
            }
        }
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

    private static func encoding() throws -> Encoding {
        .quantized(try Scheme(bits: 4, block: 32, asymmetric: false, scale: .e8m0, values: .e2m1))
    }

    @Test("Every value is kept in 4 bits with a table, gates and ups apart", arguments: [104...143, 1...250])
    func exact(exponents: ClosedRange<UInt8>) throws {
        let (model, values) = try made(exponents: exponents)
        let folder = try model.folder()
        let opened = try ModelSources.open(folder.path)
        try ModelImport(opened).write(to: folder.file("out.ebb"))
        let source = EbbSource(try EbbFile(path: folder.file("out.ebb")))
        let experts = "model.layers.1.mlp.experts"
        let (encoding, down) = try channels(source, "blk.1.ffn_down_exps.weight")
        #expect(try encoding == Self.encoding())
        #expect(down.flatMap { $0 } == values["\(experts).down_proj"])
        let both = try #require(values["\(experts).gate_up_proj"])
        for (name, first) in [("ffn_gate_exps", 0), ("ffn_up_exps", 1)] {
            let (encoding, rows) = try channels(source, "blk.1.\(name).weight")
            #expect(try encoding == Self.encoding())
            for (channel, row) in rows.enumerated() {
                let start = (channel * 2 + first) * row.count
                #expect(row == Array(both[start..<start + row.count]))
            }
        }
        // What `quantize` reads of the folder itself.
        let tensor = try #require(opened.tensors.first { $0.name == "blk.1.ffn_down_exps.weight" })
        var row = [Float](repeating: 0, count: tensor.k)
        try opened.read(tensor, channel: 1, into: &row)
        #expect(row == down[1])
    }

    @Test("A folder and a GGUF of the same weights become the same tensors, byte for byte")
    func sameAsGGUF() throws {
        let model = try made(exponents: 90...150).model
        let folder = try model.folder()
        let gguf = try folder.write("model.gguf", try gguf(model))
        let files = try [(folder.path, "folder.ebb"), (gguf, "gguf.ebb")].map { path, name in
            try ModelImport(try ModelSources.open(path)).write(to: folder.file(name))
            return try EbbFile(path: folder.file(name))
        }
        #expect(Set(files[0].names) == Set(files[1].names))
        for name in files[0].names {
            let (one, other) = (try #require(files[0].tensors[name]), try #require(files[1].tensors[name]))
            #expect(one.shape.layout == other.shape.layout, "\(name)")
            #expect(files[0].data(one).elementsEqual(files[1].data(other)), "\(name)")
        }
        let experts = files[0].names.filter { $0.hasSuffix("_exps.weight") }
        #expect(experts.count == 12)
        for name in experts { #expect(try files[0].tensors[name]?.shape.layout == .matrix(Self.encoding())) }
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
