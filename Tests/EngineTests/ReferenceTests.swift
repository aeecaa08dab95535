import Engine
import Foundation
import Measuring
import Testing
import TestKit

@Suite("Exactness against the reference", .serialized)
struct ReferenceTests {
    struct Prompt: Decodable {
        let name, text: String
        let add_special, parse_special: Bool
        let ids: [Int32]
        let last_top20: [[Double]]
        let last_logsumexp: Double
        let last_min_max: [Double]
        let argmax: [Int32]
        let mean_nll: Double?
        let greedy: [Int32]
        let greedy_margin: [Double]
    }

    func prompts(_ model: RealModel) throws -> [Prompt] {
        let url = Bundle.module.url(
            forResource: model.rawValue, withExtension: "json", subdirectory: "Reference/logits")
        return try JSONDecoder().decode([Prompt].self, from: Data(try Reference.text(url).utf8))
    }

    /// Expects the reference's logits, each an id and a value.
    private func expect(_ logits: [Float], _ reference: [[Double]], range: Double, _ name: String) {
        for entry in reference {
            #expect(abs(Double(logits[Int(entry[0])]) - entry[1]) < 1e-3 * range, "\(name): token \(entry[0])")
        }
    }

    @Test(
        "Dequantized logits agree to 1e-3 of their range, and clear greedy tokens are equal",
        arguments: [RealModel.smollm2, .qwen2, .gemma3])
    func dequantized(model: RealModel) throws {
        let decoder = try Models.real(model)
        try decoder.setAll(expanded: true)
        for prompt in try prompts(model) {
            let ids = decoder.tokenizer.encode(
                prompt.text, addSpecial: prompt.add_special, parseSpecial: prompt.parse_special)
            #expect(ids == prompt.ids, "\(prompt.name)")
            var last: [Float] = []
            let score = try decoder.score(ids, greedy: prompt.greedy.count) { last = Array($0) }
            let range = prompt.last_min_max[1] - prompt.last_min_max[0]
            expect(last, prompt.last_top20, range: range, prompt.name)
            let top = last.enumerated().sorted { $0.element > $1.element }.prefix(20).map(\.element)
            #expect(score.lastTop.map(\.logit) == top && score.lastTop.allSatisfy { last[Int($0.id)] == $0.logit })
            #expect(abs(score.lastLogSumExp - prompt.last_logsumexp) < 1e-3 * range, "\(prompt.name)")
            if let expected = prompt.mean_nll { #expect(abs((score.meanNLL ?? 0) - expected) < 0.01, "\(prompt.name)") }
            for (index, token) in prompt.greedy.enumerated() where score.greedy[index] != token {
                #expect(prompt.greedy_margin[index] <= 0.01, "\(prompt.name): greedy token \(index)")
                break  // after a close call the texts part
            }
        }
    }

    /// A prompt's log-probabilities, [positions][vocabulary].
    func logProbabilities(_ decoder: DecoderModel, _ prompt: Prompt) throws -> [[Float]] {
        var found: [[Float]] = []
        _ = try decoder.score(prompt.ids, top: 0) { logits in
            let total = Float(DecoderModel.logSumExp(logits))
            found.append(logits.map { $0 - total })
        }
        return found
    }

    struct LongPrompt: Decodable {
        let ids: [Int32]
        let argmax: [Int32]
        let last_top20: [[Double]]
        let last_min_max: [Double]
        let mean_nll: Double
    }

    // Made by the reference.py that made the other references: scripts/reference-long says how.
    @Test("A Gemma prompt far beyond its window of 512 agrees with the reference")
    func beyondTheWindow() throws {
        let url = Bundle.module.url(forResource: "gemma3-1500", withExtension: "json", subdirectory: "Reference/long")
        let prompt = try JSONDecoder().decode(LongPrompt.self, from: Data(try Reference.text(url).utf8))
        #expect(prompt.ids.count == 1500)
        let decoder = try Models.real(.gemma3)
        try decoder.setAll(expanded: true)
        var last: [Float] = []
        let score = try decoder.score(prompt.ids, top: 0) { last = Array($0) }
        expect(last, prompt.last_top20, range: prompt.last_min_max[1] - prompt.last_min_max[0], "the long prompt")
        #expect(abs((score.meanNLL ?? 0) - prompt.mean_nll) < 0.005)
        let equal = zip(score.argmax, prompt.argmax).count { $0 == $1 }
        #expect(equal >= 1490, "\(equal) of 1500 positions")
    }

    /// The same in steps of 32 tokens, with the cache as it is after each step or with its full blocks int8.
    private func steppedLogProbabilities(_ decoder: DecoderModel, _ prompt: Prompt, int8: Bool) throws -> [[Float]] {
        var found: [[Float]] = []
        let sequence = decoder.makeSequence()
        for start in stride(from: 0, to: prompt.ids.count, by: 32) {
            let tokens = prompt.ids[start..<min(start + 32, prompt.ids.count)]
            try decoder.run([StepInput(sequence: sequence, tokens: tokens, logits: .all)]) { _, _, logits in
                let total = Float(DecoderModel.logSumExp(logits))
                found.append(logits.map { $0 - total })
            }
            if int8 { while sequence.compact(most: 64) > 0 {} }
        }
        return found
    }

    /// The sum of KL(p, q) over positions, in nats.
    private func divergence(_ p: [[Float]], _ q: [[Float]]) -> Double {
        zip(p, q).reduce(0.0) { sum, rows in
            sum + zip(rows.0, rows.1).reduce(0.0) { $0 + Double(expf($1.0) * ($1.0 - $1.1)) }
        }
    }

    // The full distributions are not in the reference files (they would be 200 MB). Dequantized mode in f32 stands for
    // them: a test above holds it to the reference. Both costs are in one test, since that run is what takes time.
    @Test(
        "memory_low's mean KL is at most llama.cpp's, and an int8 KV cache's is under 0.0005",
        arguments: [(RealModel.smollm2, 0.0035), (.qwen2, 0.0013), (.gemma3, 0.0053)])
    func costs(model: RealModel, limit: Double) throws {
        let exact = try Models.real(model, precision: .f32)
        try exact.setAll(expanded: true)
        let quantized = try Models.real(model)
        var (memoryLow, int8Cache, positions) = (0.0, 0.0, 0.0)
        for prompt in try prompts(model) {
            let expected = try steppedLogProbabilities(exact, prompt, int8: false)
            memoryLow += divergence(expected, try logProbabilities(quantized, prompt))
            int8Cache += divergence(expected, try steppedLogProbabilities(exact, prompt, int8: true))
            positions += Double(expected.count)
        }
        print("mean KL of \(model.rawValue) from dequantized f32, in nats over \(positions) positions:")
        print("memory_low \(memoryLow / positions), int8 KV \(int8Cache / positions)")
        #expect(memoryLow > 0 && memoryLow / positions <= limit)
        #expect(int8Cache > 0 && int8Cache / positions < 0.0005)
    }
}
