import Engine
import ModelFormat
import Testing
import TestKit

@Suite("Adapters")
struct AdapterTests {
    private let prompt: [Int32] = (0..<70).map { Int32($0 * 7 % 300) }
    /// Float error: B (A x) adds in another order than (B A) x, which is some 1e-5 with effects as large as the weights'; and
    /// a key or a value that then lies on the other side of the middle between two halves is kept 2^-11 off, which made
    /// 5e-5 of one of 70 rows with AVX2.
    private let floatError: Float = 1e-4

    @Test("An adapter gives what merged weights give", arguments: [Float(1), 0.5, -2], Kernels.available.map(\.name))
    func merged(strength: Float, isa: String) throws {
        let plan = AdapterPlan(seed: 3)
        let model = try Models.tiny(isa: isa)
        let adapter = try plan.adapter(for: model)
        let merged = try Models.tiny(isa: isa) { plan.merge(into: &$0, strength) }
        let use = AdapterUse(adapter: adapter, strength: strength)
        let adapted = try model.lastLogits(model.makeSequence(), prompt, [use])
        #expect(shareOfRange(try merged.lastLogits(merged.makeSequence(), prompt), adapted) < floatError)
        let plain = try model.lastLogits(model.makeSequence(), prompt)
        #expect(shareOfRange(plain, adapted) > 0.05)
    }

    @Test("Requests with different adapters share a step, each as if alone")
    func together() throws {
        let model = try Models.tiny()
        let (one, other) = (try AdapterPlan(seed: 1).adapter(for: model), try AdapterPlan(seed: 2).adapter(for: model))
        let uses: [[AdapterUse]] = [
            [], [AdapterUse(adapter: one, strength: 1)], [AdapterUse(adapter: one, strength: 1)],
            [AdapterUse(adapter: other, strength: 1), AdapterUse(adapter: one, strength: 0.5)],
            [AdapterUse(adapter: other, strength: -1)],
        ]
        let prompts = [prompt, Array(prompt[3..<40]), [4], Array(prompt[..<9]), Array(prompt[10..<43])]
        let alone = try zip(prompts, uses).map { try model.lastLogits(model.makeSequence(), $0, $1) }
        var together: [[Float]] = Array(repeating: [], count: prompts.count)
        let batch = zip(prompts, uses).map { tokens, uses in
            var input = StepInput(sequence: model.makeSequence(), tokens: tokens, logits: .last)
            input.adapters = uses
            return input
        }
        try model.run(batch) { index, _, logits in together[index] = Array(logits) }
        for (one, many) in zip(alone, together) { #expect(shareOfRange(one, many) < 1e-4) }
        #expect(shareOfRange(alone[0], try model.lastLogits(model.makeSequence(), prompt, uses[1])) > 0.05)
    }

    @Test("Logits of every row have the adapter's part")
    func allRows() throws {
        let plan = AdapterPlan(seed: 5)
        let model = try Models.tiny()
        let use = AdapterUse(adapter: try plan.adapter(for: model), strength: 1)
        let merged = try Models.tiny { plan.merge(into: &$0, 1) }
        func logits(_ model: DecoderModel, _ uses: [AdapterUse]) throws -> [[Float]] {
            var input = StepInput(sequence: model.makeSequence(), tokens: prompt, logits: .all)
            input.adapters = uses
            var rows: [[Float]] = []
            try model.run([input]) { _, _, logits in rows.append(Array(logits)) }
            return rows
        }
        let (adapted, expected) = (try logits(model, [use]), try logits(merged, []))
        #expect(adapted.count == prompt.count && expected.count == prompt.count)
        for (a, b) in zip(adapted, expected) { #expect(shareOfRange(b, a) < floatError) }
    }

    @Test("A quantized model takes an adapter in either mode, and in between", arguments: [0, 1, 2, 3])
    func modes(expanded: Int) throws {
        let model = try Models.real(.smollm2)
        let plan = AdapterPlan(
            seed: 4, names: ["blk.0.attn_q.weight", "blk.29.ffn_down.weight"], rank: 8, spread: 0.05)
        let use = AdapterUse(adapter: try plan.adapter(for: model), strength: 1)
        if expanded & 1 != 0 { try model.expand(0) }
        if expanded & 2 != 0 { try model.expand(29) }
        let tokens = model.tokenizer.encode("The harbour was quiet", addSpecial: true, parseSpecial: false)
        let plain = try model.lastLogits(model.makeSequence(), tokens)
        let adapted = try model.lastLogits(model.makeSequence(), tokens, [use])
        #expect(shareOfRange(plain, adapted) > 0.02)
        // What the adapter adds is the same whatever the mode is, but for the rounding of activations.
        try model.setAll(expanded: true)
        let exact = try model.lastLogits(model.makeSequence(), tokens, [use])
        #expect(shareOfRange(exact, adapted) < 0.05)
    }

    @Test("The buffers that adapters take count as the model's, from the first step with one on")
    func buffers() throws {
        let model = try Models.tiny()
        func taken() -> Int { model.scratchRegions.reduce(0) { $0 + $1.byteCount } }
        let use = AdapterUse(adapter: try AdapterPlan(seed: 1).adapter(for: model), strength: 1)
        _ = try model.lastLogits(model.makeSequence(), prompt)
        let (before, without) = (model.scratchBytes, taken())
        #expect(without <= before)
        _ = try model.lastLogits(model.makeSequence(), prompt, [use])
        #expect(taken() > without && taken() - without == model.scratchBytes - before)
        let after = model.scratchBytes
        _ = try model.lastLogits(model.makeSequence(), prompt)
        #expect(model.scratchBytes == after)
    }

    /// A model of 256 experts, which is more than its layers are wide.
    private func manyExperts(_ change: (inout GGUFBuilder) -> Void = { _ in }) throws -> DecoderModel {
        let folder = try TemporaryFolder()
        let bytes = try TinyDecoder("olmoe").gguf { builder in
            builder.set("olmoe.expert_count", .uint32(256))
            for index in builder.tensors.indices {
                let name = builder.tensors[index].name
                guard name.contains("_exps.") || name.contains("ffn_gate_inp"),
                    var last = builder.tensors[index].dimensions.popLast()
                else { continue }
                last *= 64
                builder.tensors[index].dimensions.append(last)
                builder.tensors[index].data = Array(
                    [[UInt8]](repeating: builder.tensors[index].data, count: 64).joined())
            }
            change(&builder)
        }
        let source = GGUFSource(try GGUFFile(path: try folder.write("experts.gguf", bytes)))
        try ModelImport(source).write(to: folder.file("experts.ebb"))
        return try DecoderModel(
            try EbbFile(path: folder.file("experts.ebb")), pool: try Models.pool(),
            kernels: try Kernels.fromEnvironment())
    }

    /// Float error may choose another of two experts that a row likes as well; of 256 rows that the last one looks at, such a row
    /// is one.
    @Test("A router of many experts takes an adapter in the largest step")
    func router() throws {
        let plan = AdapterPlan(seed: 6, names: ["blk.0.ffn_gate_inp.weight"], architecture: "olmoe")
        func last(_ model: DecoderModel, _ uses: [AdapterUse]) throws -> [[Float]] {
            let batch = [3, 5].map { step in
                StepInput(
                    sequence: model.makeSequence(), tokens: (0..<256).map { Int32($0 * step % 96) }, logits: .last,
                    adapters: uses)
            }
            var found: [[Float]] = []
            try model.run(batch) { _, _, logits in found.append(Array(logits)) }
            return found
        }
        let model = try manyExperts()
        let adapted = try last(model, [AdapterUse(adapter: try plan.adapter(for: model), strength: 1)])
        let (merged, plain) = (try last(try manyExperts { plan.merge(into: &$0, 1) }, []), try last(model, []))
        for index in 0..<2 {
            #expect(shareOfRange(merged[index], adapted[index]) < 5e-3)
            #expect(shareOfRange(plain[index], adapted[index]) > 0.02)
        }
    }

    @Test("An adapter for another model is refused")
    func another() throws {
        let model = try Models.tiny()
        let other = try Models.tiny()
        let adapter = try AdapterPlan(seed: 1).adapter(for: other)
        #expect(throws: EngineError.self) {
            try model.lastLogits(model.makeSequence(), prompt, [AdapterUse(adapter: adapter, strength: 1)])
        }
        #expect(adapter.fits(other) && !adapter.fits(model))
    }

    @Test(
        "What does not fit the model is refused by name",
        arguments: [
            ("blk.7.attn_q.weight", 64, "no such matrix"), ("token_embd.weight", 300, "the embedding"),
            ("blk.0.attn_norm.weight", 64, "no such matrix"), ("output.weight", 300, "output head"),
        ])
    func misfits(name: String, n: Int, word: String) throws {
        let model = try Models.tiny()
        let error = #expect(throws: FormatError.self) {
            try AdapterPlan(seed: 1, names: [name], shapes: [name: (n, 64)]).adapter(for: model)
        }
        #expect(error?.description.contains(word) == true && error?.description.contains(name) == true)
    }

    @Test(
        "Matrices of other shapes are refused",
        arguments: [(n: 64, k: 32), (n: 80, k: 64), (n: 64, k: 64)])
    func shapes(n: Int, k: Int) throws {
        let model = try Models.tiny()
        let name = "blk.0.ffn_gate.weight"
        let error = #expect(throws: FormatError.self) {
            try AdapterPlan(seed: 1, names: [name], shapes: [name: (n, k)]).adapter(for: model)
        }
        #expect(error?.description.contains(name) == true)
    }

    @Test("A model is no adapter, and an adapter of another family does not fit")
    func kinds() throws {
        let model = try Models.tiny()
        #expect(throws: FormatError.self) { try Adapter(model.file, for: model) }
        #expect(throws: FormatError.self) { try AdapterPlan(seed: 1, architecture: "qwen2").adapter(for: model) }
    }
}

extension DecoderModel {
    /// The logits of the last of some tokens, with adapters.
    fileprivate func lastLogits(_ sequence: KVSequence, _ tokens: [Int32], _ uses: [AdapterUse]) throws -> [Float] {
        var input = StepInput(sequence: sequence, tokens: tokens, logits: .last)
        input.adapters = uses
        var found: [Float] = []
        try run([input]) { _, _, logits in found = Array(logits) }
        return found
    }
}

/// A random adapter of a llama, and the same merged.
struct AdapterPlan {
    var seed: UInt64
    var names: [String]
    var rank: Int
    var spread: Float
    /// In place of the model's own.
    var shapes: [String: (n: Int, k: Int)] = [:]
    var architecture = "llama"

    /// All matrices of both layers of ``TinyLlama``, of ranks that fill no tile.
    init(
        seed: UInt64, names: [String]? = nil, rank: Int = 5, spread: Float = 0.3,
        shapes: [String: (n: Int, k: Int)] = [:], architecture: String = "llama"
    ) {
        let matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
        self.names = names ?? (0..<2).flatMap { layer in matrices.map { "blk.\(layer).\($0).weight" } }
        (self.seed, self.rank, self.spread, self.shapes, self.architecture) = (seed, rank, spread, shapes, architecture)
    }

    /// A and B of a matrix, row by row.
    private func values(_ name: String, n: Int, k: Int) -> (a: [Float], b: [Float]) {
        var random = TestRandom(seed: seed &* 1000 &+ UInt64(name.utf8.reduce(0) { $0 &* 31 &+ Int($1) } & 0xffff))
        return (random.floats(rank * k).map { $0 * spread }, random.floats(n * rank).map { $0 * spread })
    }

    func adapter(for model: DecoderModel) throws -> Adapter {
        let folder = try TemporaryFolder()
        var metadata = MetadataEncoder()
        for (key, value) in [
            ("general.type", "adapter"), ("general.architecture", architecture), ("adapter.type", "lora"),
            ("adapter.base", "tiny"),
        ] { metadata.set(key, value) }
        var (shapes, rows): ([TensorShape], [(Int, [Float])]) = ([], [])
        for name in names {
            let (n, k) = try self.shapes[name] ?? model.shape(of: name)
            let (a, b) = values(name, n: n, k: k)
            shapes.append(TensorShape(name: name + ".lora_a", layout: .matrix(.f32), n: rank, k: k))
            shapes.append(TensorShape(name: name + ".lora_b", layout: .matrix(.f32), n: n, k: rank))
            rows += [(k, a), (rank, b)]
        }
        let path = folder.file("adapter.ebb")
        let writer = try EbbWriter(destination: path, metadata: metadata, shapes: shapes)
        for (k, values) in rows {
            let tiles = try FloatTiles(encoding: .f32, k: k)
            for first in stride(from: 0, to: values.count / k, by: 16) {
                tiles.fill(channels: min(16, values.count / k - first)) { lane, out in
                    for i in 0..<k { out[i] = values[(first + lane) * k + i] }
                }
                try writer.append(tiles.bytes)
            }
        }
        try writer.finish()
        return try Adapter(try EbbFile(path: path), for: model)
    }

    /// W + strength * B A in place of W.
    func merge(into builder: inout GGUFBuilder, _ strength: Float) {
        for name in names {
            guard let k = builder.tensors.first(where: { $0.name == name })?.dimensions.first.map({ Int($0) }) else {
                continue
            }
            var weights = builder[name]
            let n = weights.count / k
            let (a, b) = values(name, n: n, k: k)
            for row in 0..<n {
                for column in 0..<k {
                    var sum = 0.0
                    for r in 0..<rank { sum += Double(b[row * rank + r]) * Double(a[r * k + column]) }
                    weights[row * k + column] += strength * Float(sum)
                }
            }
            builder[name] = weights
        }
    }
}
