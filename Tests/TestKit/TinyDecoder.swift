import Foundation

/// A decoder of a few thousand weights as a Hugging Face folder, from a file of `Tests/EngineTests/Reference/families`, which
/// says what its GGUF is as well.
public struct TinyDecoder {
    /// The file's name without its ending.
    public let name: String
    public var config: [String: Any]
    public var weights: SafetensorsBuilder
    public var tokenizer: [String: Any]
    /// More files of the folder.
    public var files: [(name: String, bytes: [UInt8])] = []
    /// What the GGUF has: name, shape (rows first), from, op.
    public let tensors: [[String: Any]]
    public let metadata: [String: [String: Any]]
    /// Settings that a GGUF of this model loses.
    public let lost: [String]
    private var values: [String: (shape: [Int], values: [Float])] = [:]
    /// What the values of matrices are whole multiples of, -64...63 times.
    private var units: [String: Float] = [:]

    /// Every reference of a decoder: those with logits.
    public static var names: [String] {
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return files.filter { $0.hasSuffix(".json") }.map { String($0.dropLast(5)) }.sorted().filter { name in
            (try? object(name))?["logits"] != nil
        }
    }

    private static func object(_ name: String) throws -> [String: Any] {
        let data = try Data(contentsOf: folder.appendingPathComponent(name + ".json"))
        return try JSONSerialization.jsonObject(with: data) as? [String: Any] ?? [:]
    }

    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("EngineTests/Reference/families")

    /// - Parameter type: F32, F16 or BF16: the values are exact in each.
    public init(_ name: String, type: String = "F32") throws {
        self.name = name
        let file = try Self.object(name)
        guard let config = file["config"] as? [String: Any], let gguf = file["gguf"] as? [String: Any],
            let metadata = gguf["metadata"] as? [String: [String: Any]],
            let tensors = gguf["tensors"] as? [[String: Any]], let stored = file["tensors"] as? [[String: Any]]
        else { throw CocoaError(.fileReadCorruptFile) }
        (self.config, self.metadata, self.tensors) = (config, metadata, tensors)
        lost = ((gguf["differs"] as? [String: Any]) ?? [:]).keys.sorted()
        weights = SafetensorsBuilder()
        tokenizer = Self.tokenizer((config["vocab_size"] as? Int) ?? 96)
        for tensor in stored {
            guard let name = tensor["name"] as? String, let shape = tensor["shape"] as? [Int],
                let mean = tensor["mean"] as? Double, let spread = tensor["spread"] as? Double
            else { throw CocoaError(.fileReadCorruptFile) }
            let made = FamilyWeights.values(
                name, count: shape.reduce(1, *), mean: Float(mean), spread: Float(spread))
            if mean == 0 { units[name] = Float(spread / 64) }
            values[name] = (shape, made)
            weights.add(name, shape, made, as: type)
        }
    }

    /// A byte-level BPE of letters, without merges.
    private static func tokenizer(_ count: Int) -> [String: Any] {
        let special = ["<pad>", "<s>", "</s>"]
        var tokens = special
        for place in 0..<count - 3 {
            tokens.append(place < 90 ? String(UnicodeScalar(UInt8(33 + place))) : "filler\(place)")
        }
        var vocabulary: [String: Int] = [:]
        for (id, token) in tokens.enumerated() { vocabulary[token] = id }
        let model: [String: Any] = ["type": "BPE", "vocab": vocabulary, "merges": [String]()]
        var added: [[String: Any]] = []
        for (id, token) in special.enumerated() { added.append(["id": id, "content": token, "special": true]) }
        let split: [String: Any] = ["type": "ByteLevel", "add_prefix_space": false]
        return ["added_tokens": added, "model": model, "pre_tokenizer": split, "decoder": ["type": "ByteLevel"]]
    }

    /// A folder with these files.
    public func folder() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        for (name, value) in [("config.json", config), ("tokenizer.json", tokenizer)] {
            try folder.write(name, Array(try JSONSerialization.data(withJSONObject: value)))
        }
        try folder.write("model.safetensors", try weights.build())
        for file in files { try folder.write(file.name, file.bytes) }
        return folder
    }

    /// The GGUF, with a vocabulary of fillers.
    /// - Parameter eightBit: the weights of products as Q8_0, which holds them exactly; the router of experts stays in floats.
    public func gguf(eightBit: Bool = false, change: (inout GGUFBuilder) -> Void = { _ in }) throws -> [UInt8] {
        var builder = GGUFBuilder(
            try metadata.sorted { $0.key < $1.key }.map { ($0.key, try GGUFBuilder.Value(reference: $0.value)) },
            tensors.map { entry in
                let name = (entry["name"] as? String) ?? ""
                let shape = (entry["shape"] as? [Int]) ?? []
                let tensor = GGUFBuilder.Tensor.f32(name, shape.reversed().map { UInt64($0) }, expected(entry))
                guard eightBit, name.hasSuffix(".weight"), !name.contains("ffn_gate_inp"),
                    let unit = (entry["from"] as? [String])?.first.flatMap({ units[$0] })
                else { return tensor }
                return tensor.q8(unit: unit)
            })
        let vocabulary = (config["vocab_size"] as? Int) ?? 96
        builder.set("tokenizer.ggml.model", .string("gpt2"))
        builder.set("tokenizer.ggml.pre", .string("smollm"))
        builder.set("tokenizer.ggml.tokens", .strings((0..<vocabulary).map { "token\($0)" }))
        builder.set("tokenizer.ggml.merges", .strings([]))
        change(&builder)
        return builder.build()
    }

    /// The values of a tensor of the GGUF, in row order, as its `op` makes them of the folder's.
    public func expected(_ entry: [String: Any]) -> [Float] {
        let parts = ((entry["from"] as? [String]) ?? []).compactMap { values[$0] }
        let (first, step) = ((entry["first"] as? Int) ?? 0, (entry["step"] as? Int) ?? 1)
        guard let op = entry["op"] as? String, op != "values", let part = parts.first else {
            return ((entry["values"] as? [Double]) ?? []).map { Float($0) }
        }
        switch op {
        case "copy", "row", "stack": return parts.flatMap(\.values)
        case "add_one": return part.values.map { $0 + 1 }
        case "permute": return Self.permuted(part.shape, part.values, heads: (entry["heads"] as? Int) ?? 1)
        case "transpose", "columns", "columns_transpose":
            let every = Self.columns(part.shape, part.values, first: first, step: step)
            return op == "columns" ? every.values : Self.transposed(every.shape, every.values)
        default: return []
        }
    }

    static func permuted(_ shape: [Int], _ values: [Float], heads: Int) -> [Float] {
        let (rows, columns) = (shape[0], shape.dropFirst().reduce(1, *))
        let half = rows / heads / 2
        var out: [Float] = []
        for row in 0..<rows {
            let (head, place) = (row / (2 * half), row % (2 * half))
            let from = head * 2 * half + place % 2 * half + place / 2
            out += values[from * columns..<(from + 1) * columns]
        }
        return out
    }

    private static func columns(
        _ shape: [Int], _ values: [Float], first: Int, step: Int
    ) -> (shape: [Int], values: [Float]) {
        let width = shape.last ?? 1
        let kept = values.enumerated().filter { $0.offset % width % step == first }.map(\.element)
        return (shape.dropLast() + [width / step], kept)
    }

    private static func transposed(_ shape: [Int], _ values: [Float]) -> [Float] {
        let (rows, columns) = (shape[shape.count - 2], shape[shape.count - 1])
        let size = rows * columns
        return (0..<values.count).map { (index: Int) -> Float in
            let (matrix, place) = (index / size, index % size)
            return values[matrix * size + place % rows * columns + place / rows]
        }
    }
}
