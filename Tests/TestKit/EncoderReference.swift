import Foundation

/// A tiny encoder of Tests/EngineTests/Reference/families: what an independent program makes of it, and the files that hold
/// it. Its weights come from their names (Tests/Families/README.md).
public struct EncoderReference {
    private let root: [String: Any]
    public let tokens: [[Int32]]
    /// Where the second text of each pair begins; the number of tokens where all are of type 0.
    public let seconds: [Int]
    /// For each prompt, not normalized; empty for rerankers.
    public let embeddings: [[Float]]
    /// For each pair; empty for embedders.
    public let scores: [Float]
    /// The same of the GGUF, where that loses something.
    public let ggufScores: [Float]
    public let hasGGUF: Bool

    public init(_ url: URL?) throws {
        guard let url, let root = try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any] else {
            throw CocoaError(.fileReadCorruptFile)
        }
        self.root = root
        func floats(_ value: Any?) -> [Float] { (value as? [NSNumber])?.map(\.floatValue) ?? [] }
        func rows(_ key: String) -> [[NSNumber]] { root[key] as? [[NSNumber]] ?? [] }
        tokens = rows("tokens").map { $0.map(\.int32Value) }
        let types = rows("types")
        seconds = tokens.enumerated().map { index, tokens in
            types.isEmpty ? tokens.count : types[index].firstIndex { $0.intValue == 1 } ?? tokens.count
        }
        embeddings = rows("embeddings").map(floats)
        scores = floats(root["scores"])
        let gguf = root["gguf"] as? [String: Any]
        hasGGUF = gguf != nil
        let own = floats(gguf?["scores"])
        ggufScores = own.isEmpty ? scores : own
    }

    private var config: [String: Any] { root["config"] as? [String: Any] ?? [:] }
    private var vocabulary: Int { (config["vocab_size"] as? NSNumber)?.intValue ?? 0 }
    private var first: Int { Int(tokens[0].first ?? 0) }
    private var last: Int { Int(tokens[0].last ?? 0) }

    private struct Weight {
        let name: String
        /// What its values come from.
        let seed: String
        let shape: [Int]
        let values: [Float]
    }

    private var weights: [Weight] { Self.weights(root["tensors"]) }

    /// Those of further files of the folder, by the file's path.
    private var moduleWeights: [(path: String, weights: [Weight])] {
        (root["modules"] as? [[String: Any]] ?? []).map {
            ($0["path"] as? String ?? "", Self.weights($0["tensors"]))
        }
    }

    private static func weights(_ list: Any?) -> [Weight] {
        (list as? [[String: Any]] ?? []).map { tensor in
            let name = tensor["name"] as? String ?? ""
            let seed = tensor["seed"] as? String ?? name
            let shape = (tensor["shape"] as? [NSNumber])?.map(\.intValue) ?? []
            func number(_ key: String) -> Float { (tensor[key] as? NSNumber)?.floatValue ?? 0 }
            let values = FamilyWeights.values(
                seed, count: shape.reduce(1, *), mean: number("mean"), spread: number("spread"))
            return Weight(name: name, seed: seed, shape: shape, values: values)
        }
    }

    // MARK: The folder

    /// Writes config.json, model.safetensors, a tokenizer.json that has the ends of the prompts, and what else there is.
    public func folder() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        func write(_ name: String, _ value: Any) throws {
            let path = URL(fileURLWithPath: folder.file(name))
            try FileManager.default.createDirectory(
                at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
            try folder.write(name, Array(try JSONSerialization.data(withJSONObject: value)))
        }
        try write("config.json", config)
        for (name, value) in root["files"] as? [String: Any] ?? [:] { try write(name, value) }
        try write(
            "tokenizer.json",
            [
                "model": [
                    "type": "WordPiece", "unk_token": "t3",
                    "vocab": Dictionary(uniqueKeysWithValues: (0..<vocabulary).map { ("t\($0)", $0) }),
                ],
                "post_processor": ["type": "BertProcessing", "cls": ["t\(first)", first], "sep": ["t\(last)", last]],
            ] as [String: Any])
        try folder.write(
            "model.safetensors", try TinyBert.safetensors(weights.map { ($0.name, $0.shape, $0.values) }))
        for (path, weights) in moduleWeights {
            try folder.write(path, try TinyBert.safetensors(weights.map { ($0.name, $0.shape, $0.values) }))
        }
        return folder
    }

    // MARK: The GGUF

    /// The bytes of the GGUF that llama.cpp's converter makes, with a vocabulary.
    /// - Parameters:
    ///   - quantized: matrices as Q8_0, which holds these weights exactly where their mean is 0.
    ///   - change: of the metadata or the tensors.
    public func gguf(quantized: Bool, change: (inout GGUFBuilder) -> Void = { _ in }) throws -> [UInt8] {
        let gguf = root["gguf"] as? [String: Any] ?? [:]
        var builder = GGUFBuilder([])
        for (key, field) in gguf["metadata"] as? [String: [String: Any]] ?? [:] {
            builder.set(key, try GGUFBuilder.Value(reference: field))
        }
        builder.set("tokenizer.ggml.model", .string("bert"))
        builder.set("tokenizer.ggml.tokens", .strings((0..<vocabulary).map { "\u{2581}t\($0)" }))
        builder.set("tokenizer.ggml.token_type", .int32s(Array(repeating: 1, count: vocabulary)))
        for (name, id) in [("cls", first), ("seperator", last), ("unknown", 3)] {
            builder.set("tokenizer.ggml.\(name)_token_id", .uint32(UInt32(id)))
        }
        let weights = Dictionary(
            uniqueKeysWithValues: (self.weights + moduleWeights.flatMap(\.weights)).map { ($0.seed, $0) })
        for entry in gguf["tensors"] as? [[String: Any]] ?? [] {
            let from = (entry["from"] as? [String])?.first.flatMap { weights[$0] }
            guard let from, let name = entry["name"] as? String else { continue }
            let shape = (entry["shape"] as? [NSNumber])?.map(\.intValue) ?? []
            let row = from.shape.dropFirst().reduce(1, *)
            let firstRow = (entry["first"] as? NSNumber)?.intValue ?? 0
            let addend: Float = entry["op"] as? String == "add_one" ? 1 : 0
            let values = from.values[(firstRow * row)...].prefix(shape.reduce(1, *)).map { $0 + addend }
            let dimensions = shape.reversed().map(UInt64.init)
            builder.tensors.append(
                quantized && shape.count == 2
                    ? .init(name, type: 8, dimensions: dimensions, data: Self.q8(values))
                    : .f32(name, dimensions, values))
        }
        change(&builder)
        return builder.build()
    }

    /// Q8_0: of 32 values each a scale in f16 and 32 signed bytes. The scale is a power of two times the numbers' spread, so
    /// that whole multiples of it stay what they are.
    private static func q8(_ values: [Float]) -> [UInt8] {
        stride(from: 0, to: values.count, by: 32).flatMap { start -> [UInt8] in
            let block = values[start..<min(start + 32, values.count)]
            let largest = block.map(abs).max() ?? 0
            // Multiples of 1/64 of a spread that is a power of two: the finest step that they all are multiples of.
            var scale: Float = 0x1p-14
            while largest / scale > 127 { scale *= 2 }
            let codes = block.map { Int8(max(-127, min(127, ($0 / scale).rounded()))) }
            let bits = Float16(scale).bitPattern
            return [UInt8(bits & 0xff), UInt8(bits >> 8)] + codes.map { UInt8(bitPattern: $0) }
        }
    }
}
