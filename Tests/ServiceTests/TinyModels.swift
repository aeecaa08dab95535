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

    /// An encoder, random but right as a file.
    static func addBert(_ name: String, to folder: TemporaryFolder) throws {
        let parts = try TinyBert().folder()
        let source = try ModelSources.open(parts.path)
        let recipe = QuantizationPlan.uniform(bits: 8, block: 32, asymmetric: true, method: .minmax)
        try Quantizer(source, calibration: nil, threads: 1).write(
            try QuantizationPlan(source, recipe), to: folder.file("\(name).ebb"))
    }
}
