import Engine
import Foundation
import Measuring
import ModelFormat
import Testing
import TestKit

@Suite("Encoders")
struct EncoderTests {
    /// The tiny BERT, imported.
    private func tiny(isa: String? = nil, threads: Int = 2, change: (inout TinyBert) -> Void = { _ in }) throws
        -> EncoderModel
    {
        var bert = TinyBert()
        change(&bert)
        let folder = try bert.folder()
        try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("tiny.ebb"))
        let kernels = try isa.map { try Kernels.named($0) } ?? Kernels.fromEnvironment()
        return try EncoderModel(
            try EbbFile(path: folder.file("tiny.ebb")), pool: try WorkerPool(threads: threads), kernels: kernels,
            precision: .f32)
    }

    private static let texts: [[Int32]] = [
        [2, 3], [2, 5, 6, 7, 3], [2] + (0..<61).map { Int32(4 + $0 % 50) } + [3], [2, 9, 9, 3],
    ]

    private func worst(_ a: [[Float]], _ b: [[Float]]) -> Float {
        zip(a, b).map { zip($0, $1).map { abs($0 - $1) }.max() ?? 0 }.max() ?? .infinity
    }

    @Test("A text's embedding does not depend on what it is batched with, or on threads")
    func batches() throws {
        let model = try tiny()
        let together = try model.embed(Self.texts)
        #expect(together.count == Self.texts.count && together.allSatisfy { $0.count == 32 })
        for (text, embedding) in zip(Self.texts, together) {
            #expect(worst([try model.embed([text])[0]], [embedding]) < 1e-6)
        }
        #expect(worst(try tiny(threads: 1).embed(Self.texts), together) < 1e-6)
        // More texts than a step takes.
        let many = try model.embed((0..<60).map { Self.texts[$0 % 4] })
        #expect(worst(many, (0..<60).map { together[$0 % 4] }) < 1e-6)
    }

    @Test(
        "Embeddings have length 1, and every instruction set finds the same",
        arguments: Kernels.available.map(\.name))
    func instructionSets(isa: String) throws {
        guard (try? Kernels.named(isa)) != nil else { return }
        let found = try tiny(isa: isa).embed(Self.texts)
        for embedding in found { #expect(abs(embedding.reduce(0) { $0 + $1 * $1 } - 1) < 1e-5) }
        #expect(worst(found, try tiny(isa: "plain").embed(Self.texts)) < 1e-5)
    }

    @Test("What cannot be embedded is refused")
    func refused() throws {
        let model = try tiny()
        for text: [Int32] in [[], [2, -1, 3], [2, 99_999, 3], Array(repeating: 5, count: 65)] {
            #expect(throws: EngineError.self) { try model.embed([[2, 3], text]) }
        }
        #expect(try model.embed([]).isEmpty)
    }

    @Test("A long text is cut to the model's length, and still ends with its last token")
    func cut() throws {
        let model = try tiny()
        let ids = model.tokens(String(repeating: "abc ", count: 100))
        #expect(ids.count == 64 && ids.first == 2 && ids.last == 3)
    }

    @Test(
        "A file whose shapes contradict its metadata is refused",
        arguments: [
            "embeddings.position_embeddings.weight", "encoder.layer.1.intermediate.dense.weight",
            "encoder.layer.0.attention.self.key.bias",
        ])
    func wrongShape(name: String) throws {
        #expect(throws: FormatError.self) {
            try tiny { bert in
                guard let index = bert.weights.firstIndex(where: { $0.name == name }) else { return }
                bert.weights[index].shape[0] -= 1
                bert.weights[index].values.removeLast(bert.weights[index].shape.dropFirst().reduce(1, *))
            }
        }
    }

    @Test("A length that leaves no room for [CLS] and [SEP] is refused, not run", arguments: [0, 1])
    func noRoom(tokens: Int) throws {
        let folder = try TinyBert().folder()
        try folder.write("sentence_bert_config.json", Array("{\"max_seq_length\": \(tokens)}".utf8))
        try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("tiny.ebb"))
        let file = try EbbFile(path: folder.file("tiny.ebb"))
        #expect(throws: FormatError.self) { try ModelFamilies.check(file) }
    }

    @Test("A prompt that leaves no room for a text is refused at import, and so is one of more than 64 KiB")
    func longPrompts() throws {
        func check(_ prompt: String) throws {
            let folder = try TinyBert().folder()
            let prompts = ["prompts": ["query": prompt, "none": ""]]
            try folder.write(
                "config_sentence_transformers.json", Array(try JSONSerialization.data(withJSONObject: prompts)))
            try ModelImport(try ModelSources.open(folder.path)).write(
                to: folder.file("tiny.ebb"), checking: ModelFamilies.check)
        }
        try check("query: ")
        let short = #expect(throws: FormatError.self) { try check(String(repeating: "a ", count: 1000)) }
        #expect(short?.description.contains("the prompt \"query\"") == true)
        let long = #expect(throws: FormatError.self) { try check(String(repeating: "a", count: 65_537)) }
        #expect(long?.description.contains("bytes") == true)
    }

    @Test("Dense layers behind the pooling are computed, with bias and activation, and before the normalization")
    func dense() throws {
        var random = TestRandom(seed: 9)
        let widths = [(32, 20, "Tanh"), (20, 7, "Identity")]
        let weights = widths.map { random.floats($0.0 * $0.1).map { $0 * 0.3 } }
        let bias = random.floats(20)
        func model(_ kinds: [String]) throws -> EncoderModel {
            var bert = TinyBert()
            bert.setModules(kinds)
            bert.files["1_Pooling/config.json"] = ["pooling_mode": "cls"]
            for (index, width) in widths.enumerated() where kinds.count > 2 {
                bert.files["\(index + 2)_Dense/config.json"] =
                    [
                        "in_features": width.0, "out_features": width.1, "bias": index == 0,
                        "activation_function": "torch.nn.modules.activation.\(width.2)",
                    ] as [String: Any]
            }
            let folder = try bert.folder()
            for (index, width) in widths.enumerated() where kinds.count > 2 {
                let linear = ("linear.weight", [width.1, width.0], weights[index])
                try folder.write(
                    "\(index + 2)_Dense/model.safetensors",
                    try TinyBert.safetensors(index == 0 ? [linear, ("linear.bias", [20], bias)] : [linear]))
            }
            try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("tiny.ebb"))
            return try EncoderModel(
                try EbbFile(path: folder.file("tiny.ebb")), pool: try WorkerPool(threads: 2),
                kernels: try Kernels.fromEnvironment(), precision: .f32)
        }
        let plain = try model(["Transformer", "Pooling"]).embed(Self.texts)
        func product(_ weight: [Float], _ x: [Double]) -> [Double] {
            (0..<weight.count / x.count).map { n in
                var sum = 0.0
                for i in x.indices { sum += Double(weight[n * x.count + i]) * x[i] }
                return sum
            }
        }
        let expected = plain.map { embedding -> [Float] in
            let first = zip(product(weights[0], embedding.map(Double.init)), bias).map { tanh($0 + Double($1)) }
            return product(weights[1], first).map(Float.init)
        }
        let dense = try model(["Transformer", "Pooling", "Dense", "Dense"])
        #expect(dense.config.embeddingLength == 7)
        #expect(worst(try dense.embed(Self.texts), expected) < 1e-5)
        let unit = expected.map { row in
            let length = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
            return row.map { $0 / length }
        }
        let normalized = try model(["Transformer", "Pooling", "Dense", "Dense", "Normalize"]).embed(Self.texts)
        #expect(worst(normalized, unit) < 1e-5)
    }

    @Test("Heads of an odd size are refused")
    func heads() throws {
        #expect(throws: FormatError.self) { try tiny { $0.config["num_attention_heads"] = 4 } }
        #expect(throws: FormatError.self) { try tiny { $0.config["num_attention_heads"] = 5 } }
    }

    @Test("A walk through the layers, one by one, ends where a run does")
    func walk() throws {
        let model = try tiny()
        let whole = try model.embed(Self.texts)
        let walk = try LayerWalk(model, texts: Self.texts)
        try walk.start()
        var inputs: [[String]] = []
        while walk.layer < model.layerCount {
            try walk.look(onInput: { inputs.append($0.weights) })
            try walk.advance()
        }
        #expect(inputs.count == 2 * 4 && inputs[0].count == 3)
        #expect(worst(walk.embeddings(), whole) < 1e-6)
    }

    @Test("A substituted weight changes the result until it is restored")
    func substitution() throws {
        let model = try tiny()
        let before = try model.embed(Self.texts)
        for name in ["blk.1.ffn_up.weight", "token_embd.weight"] {
            let (_, k) = try model.shape(of: name)
            try model.substitute(name) { _, row in for i in 0..<k { row[i] = 0.3 } }
            #expect(worst(try model.embed(Self.texts), before) > 1e-3, "\(name)")
            model.restore(name)
            #expect(worst(try model.embed(Self.texts), before) == 0, "\(name)")
        }
        #expect(throws: EngineError.self) { try model.substitute("none") { _, _ in } }
    }
}
