import Foundation
import ModelFormat
import Testing
import TestKit

@Suite("Folders of decoders that are damaged or hostile")
struct FolderRobustnessTests {
    /// Opens and imports what may be anything: an error is as good as a model, a trap is not.
    private func tryImport(_ folder: TemporaryFolder) {
        guard let source = try? ModelSources.open(folder.path) else { return }
        try? ModelImport(source).write(to: folder.file("out.ebb"))
    }

    private func packed(_ method: String) throws -> TinyDecoder {
        var model = try TinyDecoder("llama")
        let isCompressed = method == "compressed-tensors"
        let group: [String: Any] = ["weights": ["num_bits": 4, "type": "int", "group_size": 32, "symmetric": false]]
        model.config["quantization_config"] =
            isCompressed
            ? ["quant_method": method, "format": "pack-quantized", "config_groups": ["group_0": group]]
            : ["quant_method": method, "bits": 4, "group_size": 32]
        for tensor in model.weights.tensors where tensor.name.hasSuffix("_proj.weight") {
            let module = String(tensor.name.dropLast(7))
            let (n, k) = (tensor.shape[0], tensor.shape[1])
            model.weights.tensors.removeAll { $0.name == tensor.name }
            if isCompressed {
                let words = [Int32](repeating: 0x1234_5678, count: n * k / 8)
                model.weights.add(module + ".weight_packed", [n, k / 8], words)
                let zeros = [Int32](repeating: 7, count: n * k / 256)
                model.weights.add(module + ".weight_zero_point", [n / 8, k / 32], zeros)
                model.weights.add(
                    module + ".weight_scale", [n, k / 32], [Float](repeating: 0.5, count: n * k / 32), as: "F16")
                model.weights.add(module + ".weight_shape", [2], [Int32(n), Int32(k)])
                continue
            }
            let shape = method == "awq" ? [k, n / 8] : [k / 8, n]
            model.weights.add(module + ".qweight", shape, [Int32](repeating: 0x1234_5678, count: n * k / 8))
            model.weights.add(module + ".qzeros", [k / 32, n / 8], [Int32](repeating: 7, count: k / 32 * n / 8))
            model.weights.add(module + ".scales", [k / 32, n], [Float](repeating: 0.5, count: k / 32 * n), as: "F16")
            model.weights.add(module + ".g_idx", [k], (0..<k).map { Int32($0 / 32) })
        }
        return model
    }

    private func models() throws -> [TinyDecoder] {
        try ["llama", "gemma3", "phi3", "qwen3moe", "gpt-oss"].map { try TinyDecoder($0) } + [
            packed("gptq"), packed("awq"), packed("compressed-tensors"),
        ]
    }

    @Test("Random changes to a safetensors header never trap")
    func headers() throws {
        var random = TestRandom(seed: 8)
        for model in try models() {
            let folder = try model.folder()
            let whole = try model.weights.build()
            let length = whole.prefix(8).enumerated().reduce(0) { $0 + Int($1.element) << ($1.offset * 8) }
            for _ in 0..<25 {
                var bytes = whole
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    let place = Int.random(in: 0..<8 + length, using: &random)
                    // Digits stay digits: shapes and offsets that nobody meant.
                    let isDigit = (48...57).contains(bytes[place])
                    bytes[place] = UInt8.random(in: isDigit ? 48...57 : 0...255, using: &random)
                }
                try folder.write("model.safetensors", bytes)
                tryImport(folder)
            }
        }
    }

    @Test("Random values in a configuration never trap")
    func configurations() throws {
        var random = TestRandom(seed: 9)
        let values: [Any] = [
            NSNull(), true, false, 0, 1, 2, 3, -1, 7, 16, 4096, Int(Int32.max), Int.max, Int.min, 0.5, 1e300, -1e-300,
            "",
            "full_attention", [Any](), [1, 2], [String: Any](), ["rope_type": "longrope"],
            ["rope_type": "yarn", "factor": 0],
            ["rope_type": "llama3", "factor": 1e-300], ["quant_method": "gptq", "bits": 8, "group_size": -1],
        ]
        for model in try models() {
            for key in model.config.keys.sorted() + ["rope_parameters", "text_config", "quantization_config"] {
                for _ in 0..<2 {
                    var model = model
                    model.config[key] = values.randomElement(using: &random)
                    if Bool.random(using: &random) {
                        model.config[model.config.keys.sorted().randomElement(using: &random) ?? key] =
                            values.randomElement(using: &random)
                    }
                    tryImport(try model.folder())
                }
            }
        }
    }

    @Test("A folder that is cut anywhere is refused, never a trap")
    func truncated() throws {
        for model in try [TinyDecoder("gpt-oss"), packed("gptq")] {
            let folder = try model.folder()
            let whole = try model.weights.build()
            for length in stride(from: 0, to: whole.count, by: whole.count / 97) {
                try folder.write("model.safetensors", Array(whole[..<length]))
                #expect(throws: FormatError.self, "\(length) bytes") { try ModelSources.open(folder.path) }
            }
        }
    }
}
