import Engine
import Foundation
import Glibc
import ModelFormat
import TestKit

extension FuzzTarget {
    /// An adapter: a GGUF file, or adapter_config.json, a zero, and adapter_model.safetensors. It is imported and applied.
    static let adapter = FuzzTarget("adapter", longest: 16384) {
        [adapterGGUF(), try adapterFolder()]
    } run: { bytes in
        let path: String
        if bytes.starts(with: Array("GGUF".utf8)) {
            path = try Scratch.write("adapter.gguf", bytes)
        } else {
            let config = bytes.prefix { $0 != 0 }
            _ = try Scratch.write("adapter/adapter_config.json", Array(config))
            _ = try Scratch.write("adapter/adapter_model.safetensors", Array(bytes.dropFirst(config.count + 1)))
            path = "\(Scratch.folder)/adapter"
        }
        guard let model = try? model.get() else { return }
        let out = "\(Scratch.folder)/adapter.ebb"
        defer { unlink(out) }
        try AdapterSource(path: path, for: model.file, named: "model").write(to: out)
        let adapter = try Adapter(try EbbFile(path: out), for: model)
        var input = StepInput(sequence: model.makeSequence(), tokens: [0, 1, 0] as [Int32], logits: .last)
        input.adapters = [AdapterUse(adapter: adapter, strength: 0.5)]
        try model.run([input]) { _, _, _ in }
    }

    private static let weight = "blk.0.attn_q.weight"

    private static func adapterGGUF() -> [UInt8] {
        func ones(_ name: String, n: Int, k: Int) -> GGUFBuilder.Tensor {
            .f32(name, [UInt64(k), UInt64(n)], Array(repeating: 0.25, count: n * k))
        }
        return GGUFBuilder(
            [
                ("general.type", .string("adapter")), ("general.architecture", .string("llama")),
                ("adapter.type", .string("lora")), ("adapter.lora.alpha", .float32(2)),
            ],
            [ones(weight + ".lora_a", n: 2, k: 32), ones(weight + ".lora_b", n: 32, k: 2)]
        ).build()
    }

    private static func adapterFolder() throws -> [UInt8] {
        let config = #"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {}, "bias": "none"}"#
        var weights = SafetensorsBuilder()
        let module = "base_model.model.model.layers.0.self_attn.q_proj"
        let values = [Float](repeating: 0.25, count: 64)
        weights.add(module + ".lora_A.weight", [2, 32], values)
        weights.add(module + ".lora_B.weight", [32, 2], values)
        return Array(config.utf8) + [0] + (try weights.build())
    }

    /// Used by one thread, like everything here.
    nonisolated(unsafe) private static let model = Result<DecoderModel, any Error> {
        let path = try Scratch.write("base.gguf", TinyFiles.decoder("llama", pieces: true))
        let out = "\(Scratch.folder)/base.ebb"
        try ModelImport(GGUFSource(try GGUFFile(path: path))).write(to: out)
        return try DecoderModel(
            try EbbFile(path: out), pool: try WorkerPool(threads: 1), kernels: try Kernels.fromEnvironment(),
            options: ModelOptions(contextLimit: 64, sequences: 1))
    }
}
