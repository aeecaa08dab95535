import Engine
import Measuring
import ModelFormat
import Testing
import TestKit

@Suite("Steps")
struct StepTests {
    private let prompt: [Int32] = (0..<70).map { Int32($0 * 7 % 300) }

    @Test("A prompt in pieces gives the logits of the prompt in one", arguments: [1, 3, 32, 33])
    func pieces(size: Int) throws {
        let model = try Models.tiny()
        let whole = try model.lastLogits(model.makeSequence(), prompt)
        let sequence = model.makeSequence()
        var logits: [Float] = []
        for start in stride(from: 0, to: prompt.count, by: size) {
            logits = try model.lastLogits(sequence, Array(prompt[start..<min(start + size, prompt.count)]))
        }
        #expect(shareOfRange(whole, logits) < 1e-4)
    }

    @Test("Sequences in one batch do not touch each other")
    func batch() throws {
        let model = try Models.tiny()
        let prompts = [prompt, [5], Array(prompt[10..<43]), [9, 8, 7]]
        let alone = try prompts.map { try model.lastLogits(model.makeSequence(), $0) }
        let sequences = prompts.map { _ in model.makeSequence() }
        var together: [[Float]] = Array(repeating: [], count: prompts.count)
        let batch = zip(sequences, prompts).map { StepInput(sequence: $0, tokens: $1, logits: .last) }
        try model.run(batch) { index, _, logits in together[index] = Array(logits) }
        for (one, many) in zip(alone, together) { #expect(shareOfRange(one, many) < 1e-4) }
        // Prefill and decode mixed in one step.
        let next = try model.lastLogits(sequences[0], [1])
        let again = model.makeSequence()
        _ = try model.lastLogits(again, prompt)
        var mixed: [[Float]] = [[], []]
        try model.run([
            StepInput(sequence: again, tokens: [1], logits: .last),
            StepInput(sequence: model.makeSequence(), tokens: prompt, logits: .last),
        ]) { index, _, logits in mixed[index] = Array(logits) }
        #expect(shareOfRange(next, mixed[0]) < 1e-4)
        #expect(shareOfRange(alone[0], mixed[1]) < 1e-4)
    }

    @Test(
        "Every instruction set computes what plain C computes", arguments: Kernels.available.map(\.name), [true, false])
    func instructionSets(isa: String, expanded: Bool) throws {
        guard let kernels = try? Kernels.named(isa) else { return }
        func logits(_ name: String, _ kernels: Kernels) throws -> [Float] {
            let model = try Models.tiny(isa: name)
            try model.setAll(expanded: expanded)
            return try model.lastLogits(model.makeSequence(), prompt)
        }
        #expect(shareOfRange(try logits("plain", try Kernels.named("plain")), try logits(isa, kernels)) < 2e-3)
    }

    @Test("The number of threads changes nothing")
    func threads() throws {
        let one = try Models.tiny(threads: 1)
        let three = try Models.tiny(threads: 3)
        let (a, b) = (
            try one.lastLogits(one.makeSequence(), prompt), try three.lastLogits(three.makeSequence(), prompt)
        )
        #expect(a == b)
    }

    @Test("Layers change mode between two steps while a sequence runs, and the text goes on")
    func modeSwitch() throws {
        let model = try Models.real(.smollm2)
        let ids = model.tokenizer.encode("The capital of France is", addSpecial: true, parseSpecial: false)
        let steady = try model.score(ids, greedy: 16).greedy
        let sequence = model.makeSequence()
        var token = largest(try model.lastLogits(sequence, ids))
        var switched = [token]
        for index in 0..<15 {
            let layer = index * 2
            if model.isExpanded(layer) {
                model.drop(layer)
            } else {
                try model.expand(layer)
            }
            token = largest(try model.lastLogits(sequence, [token]))
            switched.append(token)
        }
        #expect(model.expandedLayers == 15)
        #expect(switched.prefix(4) == steady.prefix(4))
        for layer in 0..<model.layerCount { model.drop(layer) }
        #expect(model.expandedBytes == 0)
    }

    @Test("Tokens outside the vocabulary, overlong steps and a full context are refused, and nothing has changed")
    func refusals() throws {
        let model = try Models.tiny()
        let sequence = model.makeSequence()
        for tokens: [Int32] in [[-1], [300], [0, Int32.max]] {
            #expect(throws: EngineError.self) { try model.lastLogits(sequence, tokens) }
        }
        #expect(throws: EngineError.self) { try model.lastLogits(sequence, Array(repeating: 1, count: 600)) }
        #expect(throws: EngineError.self) { try model.lastLogits(sequence, Array(repeating: 1, count: 257)) }
        #expect(sequence.count == 0)
        _ = try model.lastLogits(sequence, Array(repeating: 1, count: 256))
        #expect(throws: EngineError.self) { try model.lastLogits(sequence, [1]) }
    }

    @Test("A sequence gives its KV blocks back when it ends")
    func kvBlocks() throws {
        let model = try Models.tiny(options: ModelOptions(sequences: 1))
        var sequence: KVSequence? = model.makeSequence()
        _ = try model.lastLogits(try #require(sequence), Array(repeating: 1, count: 200))
        #expect(model.kvPool.usedBlocks == 2 * 7)
        let other = model.makeSequence()
        #expect(throws: EngineError.self) { try model.lastLogits(other, Array(repeating: 1, count: 200)) }
        sequence = nil
        #expect(model.kvPool.usedBlocks == 0)
        _ = try model.lastLogits(other, Array(repeating: 1, count: 200))
    }
}
