import Foundation

/// A BERT of a few thousand random weights, as a Hugging Face folder: wrong as a model, right as files.
public struct TinyBert {
    public var hidden = 32
    public var heads = 2
    public var layers = 2
    public var feedForward = 40
    public var tokens =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + (97...122).map { String(UnicodeScalar(UInt8($0))) }
        + (97...122).map { "##" + String(UnicodeScalar(UInt8($0))) }
    /// Weights in the order they are written, by name.
    public var weights: [(name: String, shape: [Int], values: [Float])] = []
    public var config: [String: Any] = [:]
    /// More files of the folder: JSON values by their paths.
    public var files: [String: Any] = [:]

    public init() {
        var random = TestRandom(seed: 17)
        func add(_ name: String, _ shape: [Int], _ values: [Float]? = nil) {
            let values = values ?? random.floats(shape.reduce(1, *)).map { $0 * 0.2 }
            weights.append((name, shape, values))
        }
        func norm(_ name: String) {
            add("\(name).weight", [hidden], Array(repeating: 1, count: hidden))
            add("\(name).bias", [hidden])
        }
        func linear(_ name: String, _ n: Int, _ k: Int) {
            add("\(name).weight", [n, k])
            add("\(name).bias", [n])
        }
        add("embeddings.word_embeddings.weight", [tokens.count, hidden])
        add("embeddings.position_embeddings.weight", [64, hidden])
        add("embeddings.token_type_embeddings.weight", [2, hidden])
        norm("embeddings.LayerNorm")
        for layer in 0..<layers {
            let prefix = "encoder.layer.\(layer)"
            for part in ["query", "key", "value"] { linear("\(prefix).attention.self.\(part)", hidden, hidden) }
            linear("\(prefix).attention.output.dense", hidden, hidden)
            norm("\(prefix).attention.output.LayerNorm")
            linear("\(prefix).intermediate.dense", feedForward, hidden)
            linear("\(prefix).output.dense", hidden, feedForward)
            norm("\(prefix).output.LayerNorm")
        }
        config = [
            "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": feedForward, "max_position_embeddings": 64, "vocab_size": tokens.count,
            "layer_norm_eps": 1e-12, "hidden_act": "gelu",
        ]
    }

    /// Makes it a reranker: a pooler, and a classifier of one score.
    public mutating func becomeReranker() {
        var random = TestRandom(seed: 23)
        for (name, shape) in [
            ("pooler.dense.weight", [hidden, hidden]), ("pooler.dense.bias", [hidden]),
            ("classifier.weight", [1, hidden]), ("classifier.bias", [1]),
        ] {
            weights.append((name, shape, random.floats(shape.reduce(1, *)).map { $0 * 0.4 }))
        }
        config["architectures"] = ["BertForSequenceClassification"]
    }

    /// The bytes of model.safetensors.
    public func safetensors() throws -> [UInt8] { try Self.safetensors(weights) }

    /// The bytes of a safetensors file of f32 tensors.
    public static func safetensors(_ weights: [(name: String, shape: [Int], values: [Float])]) throws -> [UInt8] {
        var header: [String: Any] = ["__metadata__": ["format": "pt"]]
        var data: [UInt8] = []
        for (name, shape, values) in weights {
            let start = data.count
            for value in values { withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) } }
            header[name] = ["dtype": "F32", "shape": shape, "data_offsets": [start, data.count]]
        }
        let text = try JSONSerialization.data(withJSONObject: header, options: .sortedKeys)
        return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + Array(text) + data
    }

    /// Writes the folder's files.
    public func write(to folder: TemporaryFolder) throws {
        let vocabulary = Dictionary(uniqueKeysWithValues: tokens.enumerated().map { ($1, $0) })
        let tokenizer: [String: Any] = [
            "model": ["type": "WordPiece", "unk_token": "[UNK]", "vocab": vocabulary],
            "added_tokens": tokens.enumerated().prefix(4).map { id, token in
                ["id": id, "special": true, "content": token] as [String: Any]
            },
            "normalizer": ["lowercase": true],
        ]
        for (name, value) in [("config.json", config), ("tokenizer.json", tokenizer)] {
            try folder.write(name, Array(try JSONSerialization.data(withJSONObject: value)))
        }
        try folder.write("model.safetensors", try safetensors())
        for (name, value) in files {
            let path = URL(fileURLWithPath: folder.file(name))
            try FileManager.default.createDirectory(
                at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
            try folder.write(name, Array(try JSONSerialization.data(withJSONObject: value)))
        }
    }

    /// The chain of sentence-transformers: modules of these kinds, in folders `1_Pooling` and so on.
    public mutating func setModules(_ kinds: [String]) {
        files["modules.json"] = kinds.enumerated().map { index, kind in
            [
                "idx": index, "name": "\(index)", "path": kind == "Transformer" ? "" : "\(index)_\(kind)",
                "type": "sentence_transformers.models.\(kind)",
            ] as [String: Any]
        }
    }

    /// A folder with these files.
    public func folder() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        try write(to: folder)
        return folder
    }
}
