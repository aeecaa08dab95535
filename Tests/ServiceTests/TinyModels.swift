import Conversion
import ModelFormat
import TestKit

/// Folders of models that take no time to load.
enum TinyModels {
    /// A decoder, random but right as a file.
    static func addLlama(
        _ name: String, layers: Int = 2, to folder: TemporaryFolder, template: String? = nil,
        change: (inout GGUFBuilder) -> Void = { _ in }
    ) throws {
        let path = try folder.write(
            "\(name).gguf",
            TinyLlama.gguf(layers: layers) { builder in
                if let template { builder.pairs.append(("tokenizer.chat_template", .string(template))) }
                change(&builder)
            })
        try ModelImport(try ModelSources.open(path)).write(to: folder.file("\(name).ebb"))
    }

    static func llama(_ names: String..., template: String? = nil) throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        for name in names { try addLlama(name, to: folder, template: template) }
        return folder
    }

    /// A mixture of experts, in 8 bits.
    static func mixture(_ family: String) throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        let path = try folder.write("\(family).gguf", try TinyDecoder(family).gguf(eightBit: true))
        try ModelImport(try ModelSources.open(path)).write(to: folder.file("\(family).ebb"))
        return folder
    }

    /// An encoder, random but right as a file.
    static func addBert(_ name: String, to folder: TemporaryFolder) throws {
        let parts = try TinyBert().folder()
        let source = try ModelSources.open(parts.path)
        let recipe = QuantizationPlan.uniform(bits: 8, block: 32, asymmetric: true, method: .minmax)
        try Quantizer(source, calibration: nil, threads: 1).write(
            try QuantizationPlan(source, recipe), to: folder.file("\(name).ebb"))
    }

    /// An adapter of a llama in the same folder that changes its answers.
    static func addAdapter(_ name: String, for base: String, seed: UInt64, to folder: TemporaryFolder) throws {
        var random = TestRandom(seed: seed)
        func matrix(_ name: String, n: Int, k: Int) -> GGUFBuilder.Tensor {
            .f32(name, [UInt64(k), UInt64(n)], random.floats(n * k))
        }
        var tensors: [GGUFBuilder.Tensor] = []
        for layer in 0..<2 {
            for (weight, n, k) in [("attn_q", 64, 64), ("attn_v", 32, 64), ("ffn_down", 64, 96)] {
                let weight = "blk.\(layer).\(weight).weight"
                tensors += [matrix(weight + ".lora_a", n: 4, k: k), matrix(weight + ".lora_b", n: n, k: 4)]
            }
        }
        let builder = GGUFBuilder(
            [
                ("general.type", .string("adapter")), ("general.architecture", .string("llama")),
                ("adapter.type", .string("lora")), ("adapter.lora.alpha", .float32(4)),
            ], tensors)
        let store = ModelStore(folder: folder.path).adapters
        try store.create()
        let source = try AdapterSource(
            path: try folder.write("\(name).gguf", builder.build()), for: try EbbFile(path: folder.file("\(base).ebb")),
            named: base)
        try source.write(to: try store.path(of: name))
    }
}
