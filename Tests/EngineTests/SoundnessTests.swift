import Engine
import ModelFormat
import Testing
import TestKit

@Suite("NaN and infinity in a step")
struct SoundnessTests {
    /// A tiny llama with what `damage` does to its container.
    private func damaged(
        change: (inout GGUFBuilder) -> Void = { _ in }, by damage: (String) throws -> Void = { _ in }
    ) throws -> DecoderModel {
        let folder = try TemporaryFolder()
        let source = try folder.write("tiny.gguf", TinyLlama.gguf(change: change))
        let path = folder.file("tiny.ebb")
        try ModelImport(GGUFSource(try GGUFFile(path: source))).write(to: path)
        try damage(path)
        return try DecoderModel(
            try EbbFile(path: path), pool: try WorkerPool(threads: 2), kernels: try Kernels.fromEnvironment())
    }

    private func error(_ model: DecoderModel, _ tokens: [Int32]) -> String {
        #expect(throws: EngineError.self) { try model.lastLogits(model.makeSequence(), tokens) }?.description ?? ""
    }

    private static let nan: [UInt8] = [0, 0, 0xc0, 0x7f]

    @Test("The first layer in which they arise is named", arguments: [0, 1])
    func layer(layer: Int) throws {
        // All weights are finite; their products are not.
        let model = try damaged(change: { $0["blk.\(layer).ffn_down.weight"] = Array(repeating: 3e38, count: 64 * 96) })
        #expect(error(model, [1, 2, 3]).contains("in layer \(layer);"))
        #expect(error(model, Array(repeating: 5, count: 200)).contains("in layer \(layer);"))
    }

    @Test("The embedding and the output head are named")
    func ends() throws {
        let embedding = try damaged(change: { builder in
            builder["token_embd.weight"] = builder["token_embd.weight"].enumerated().map { $0 / 64 == 7 ? 1e30 : $1 }
        })
        #expect(error(embedding, [1, 7]).contains("in the embedding;"))
        let head = try damaged(change: { $0["output_norm.weight"] = Array(repeating: 3e38, count: 64) })
        #expect(error(head, [1]).contains("in the output head;"))
    }

    @Test("Vectors are looked at when a model is loaded: products in int8 would swallow their NaN")
    func vectors() throws {
        let error = #expect(throws: FormatError.self) {
            try damaged(by: { try EbbBytes.write(Self.nan, at: 8, of: "blk.1.attn_norm.weight", in: $0) })
        }
        #expect(error?.description.contains("blk.1.attn_norm.weight") == true)
    }

    @Test("In a batch only the sequences concerned fail; the others get what they get alone")
    func batch() throws {
        let model = try damaged(change: { builder in
            let right = builder["token_embd.weight"]
            builder.tensors.append(.f32("output.weight", [64, UInt64(TinyLlama.vocabulary)], right))
            builder["token_embd.weight"] = right.enumerated().map { $0 / 64 == 7 ? 1e30 : $1 }
        })
        let prompts: [[Int32]] = [[1, 2, 3], [4, 7, 5], [9], [7], [8, 8, 8, 8, 8]]
        let alone = try [0, 2, 4].map { try model.lastLogits(model.makeSequence(), prompts[$0]) }
        let sequences = prompts.map { _ in model.makeSequence() }
        var (failed, found): ([Int], [Int: [Float]]) = ([], [:])
        for logits in [StepInput.Logits.last, .all] {
            (failed, found) = ([], [:])
            let batch = zip(logits == .last ? sequences : prompts.map { _ in model.makeSequence() }, prompts).map {
                StepInput(sequence: $0, tokens: $1, logits: logits)
            }
            try model.run(batch) { index, error in
                failed.append(index)
                #expect(error.description.contains("in the embedding;"))
            } onLogits: { index, _, logits in
                found[index] = Array(logits)
            }
            #expect(failed == [1, 3])
            for (place, index) in [0, 2, 4].enumerated() {
                #expect(shareOfRange(alone[place], found[index] ?? []) < 1e-4)
            }
            #expect(found[1] == nil && found[3] == nil)
        }
        // They go on, too.
        let steady = model.makeSequence()
        _ = try model.lastLogits(steady, prompts[0])
        _ = sequences
        #expect(try model.lastLogits(steady, [4]).count == TinyLlama.vocabulary)
    }

    @Test("A row of a prompt that nobody wants logits of is looked at as well")
    func prompt() throws {
        // The row of token 7 in the first tile of the embedding, [k][16].
        let model = try damaged(by: { try EbbBytes.write(Self.nan, at: 7 * 4, of: "token_embd.weight", in: $0) })
        var failed: [Int] = []
        let batch = [StepInput(sequence: model.makeSequence(), tokens: [1, 7, 2], logits: .none)]
        try model.run(batch) { index, _ in
            failed.append(index)
        } onLogits: { _, _, _ in
        }
        #expect(failed == [0])
        #expect(error(model, [7] + Array(repeating: 3, count: 100)).contains("in the embedding;"))
    }

    @Test("A text that becomes NaN fails alone, with the layer's name")
    func encoder() throws {
        let folder = try TinyBert().folder()
        let path = folder.file("tiny.ebb")
        try ModelImport(try ModelSources.open(folder.path)).write(to: path)
        try EbbBytes.write(Self.nan, at: 9 * 4, of: "token_embd.weight", in: path)
        func model() throws -> EncoderModel {
            try EncoderModel(
                try EbbFile(path: path), pool: try WorkerPool(threads: 2), kernels: try Kernels.fromEnvironment())
        }
        let found = try model().embedEach([[2, 5, 3], [2, 9, 3], [2, 6, 3]])
        #expect(found.map { (try? $0.get()) != nil } == [true, false, true])
        if case .failure(let error) = found[1] { #expect(error.description.contains("in the embedding;")) }
        #expect(throws: EngineError.self) { try model().embed([[2, 9, 3]]) }
        try EbbBytes.write(Self.nan, at: 0, of: "blk.1.ffn_down.bias", in: path)
        let error = #expect(throws: FormatError.self) { try model() }
        #expect(error?.description.contains("blk.1.ffn_down.bias") == true)
    }
}
