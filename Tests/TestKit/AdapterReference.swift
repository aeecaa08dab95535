import Foundation

/// A LoRA adapter of a small random decoder (``TinyDecoder``) and what PEFT makes of both: a file of
/// `Tests/EngineTests/Reference/adapters`, which `scripts/adapter-references` makes.
public struct AdapterReference {
    /// Of the model.
    public let model: String
    public var config: [String: Any]
    public var weights = SafetensorsBuilder()
    public let tokens: [[Int32]]
    public let rows: [[Int]]
    /// Logits [rows][vocabulary] of those rows of each prompt, with keys and values that were rounded to f16.
    public let logits: [[[Float]]]
    private let values: [String: [Float]]
    private let shapes: [String: [Int]]
    private let gguf: [String: Any]?

    public static let names = ["llama", "qwen2", "gemma3", "phi3", "granite", "olmoe"]
    /// Those that llama.cpp's converter can say.
    public static let namesOfGGUF = ["llama", "gemma3", "phi3", "olmoe"]

    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("EngineTests/Reference/adapters")

    /// - Parameter type: of the values: F32, F16 or BF16, which all hold them exactly.
    public init(_ name: String, type: String = "F32") throws {
        let data = try Data(contentsOf: Self.folder.appendingPathComponent(name + ".json"))
        guard let file = try JSONSerialization.jsonObject(with: data) as? [String: Any],
            let model = file["model"] as? String, let config = file["config"] as? [String: Any],
            let stored = file["tensors"] as? [[String: Any]]
        else { throw CocoaError(.fileReadCorruptFile) }
        (self.model, self.config, gguf) = (model, config, file["gguf"] as? [String: Any])
        var (values, shapes): ([String: [Float]], [String: [Int]]) = ([:], [:])
        for tensor in stored {
            guard let name = tensor["name"] as? String, let shape = tensor["shape"] as? [Int],
                let spread = tensor["spread"] as? Double
            else { throw CocoaError(.fileReadCorruptFile) }
            let made = FamilyWeights.values(name, count: shape.reduce(1, *), mean: 0, spread: Float(spread))
            (values[name], shapes[name]) = (made, shape)
            weights.add(name, shape, made, as: type)
        }
        (self.values, self.shapes) = (values, shapes)
        struct Results: Decodable {
            let tokens: [[Int32]]
            let rows: [[Int]]
            let logits_half_cache: [[[Float]]]
        }
        let results = try JSONDecoder().decode(Results.self, from: data)
        (tokens, rows, logits) = (results.tokens, results.rows, results.logits_half_cache)
    }

    /// As PEFT saves it.
    public func folder() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        try folder.write("adapter_config.json", Array(try JSONSerialization.data(withJSONObject: config)))
        try folder.write("adapter_model.safetensors", try weights.build())
        return folder
    }

    /// As llama.cpp's converter writes it.
    public func gguf(change: (inout GGUFBuilder) -> Void = { _ in }) throws -> [UInt8] {
        guard let gguf, let alpha = gguf["alpha"] as? Double, let tensors = gguf["tensors"] as? [[String: Any]] else {
            throw CocoaError(.fileReadCorruptFile)
        }
        var builder = GGUFBuilder(
            [
                ("general.type", .string("adapter")), ("general.architecture", .string(model)),
                ("adapter.type", .string("lora")), ("adapter.lora.alpha", .float32(Float(alpha))),
            ],
            try tensors.map { entry in
                guard let name = entry["name"] as? String, let shape = entry["shape"] as? [Int],
                    let from = (entry["from"] as? [String])?.first, let stored = values[from], let size = shapes[from]
                else { throw CocoaError(.fileReadCorruptFile) }
                let made =
                    (entry["op"] as? String) == "permute"
                    ? TinyDecoder.permuted(size, stored, heads: (entry["heads"] as? Int) ?? 1) : stored
                return .f32(name, shape.reversed().map { UInt64($0) }, made)
            })
        change(&builder)
        return builder.build()
    }
}
