import Engine
import Foundation
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

    private func prompts(_ model: RealModel) throws -> [Prompt] {
        let url = Bundle.module.url(
            forResource: model.rawValue, withExtension: "json", subdirectory: "Reference/logits")
        return try JSONDecoder().decode([Prompt].self, from: Data(try Reference.text(url).utf8))
    }

    @Test(
        "Dequantized logits agree to 1e-3 of their range, and clear greedy tokens are equal",
        arguments: [RealModel.smollm2])
    func dequantized(model: RealModel) throws {
        let decoder = try Models.real(model)
        try decoder.setAll(expanded: true, kernels: try Kernels.fromEnvironment())
        for prompt in try prompts(model) {
            let ids = decoder.tokenizer.encode(
                prompt.text, addSpecial: prompt.add_special, parseSpecial: prompt.parse_special)
            #expect(ids == prompt.ids, "\(prompt.name)")
            let score = try decoder.score(ids, top: decoder.config.vocabulary, greedy: prompt.greedy.count)
            let found = Dictionary(uniqueKeysWithValues: score.lastTop.map { ($0.id, Double($0.logit)) })
            let range = prompt.last_min_max[1] - prompt.last_min_max[0]
            for entry in prompt.last_top20 {
                #expect(
                    abs((found[Int32(entry[0])] ?? .infinity) - entry[1]) < 1e-3 * range,
                    "\(prompt.name) token \(entry[0])")
            }
            #expect(abs(score.lastLogSumExp - prompt.last_logsumexp) < 1e-3 * range, "\(prompt.name)")
            if let expected = prompt.mean_nll { #expect(abs((score.meanNLL ?? 0) - expected) < 0.01, "\(prompt.name)") }
            for (index, token) in prompt.greedy.enumerated() where score.greedy[index] != token {
                #expect(prompt.greedy_margin[index] <= 0.01, "\(prompt.name): greedy token \(index)")
                break  // after a close call the texts part
            }
        }
    }

    /// All positions' log-probabilities, [positions][vocabulary].
    private func logProbabilities(_ decoder: DecoderModel, _ prompts: [Prompt]) throws -> [[Float]] {
        var found: [[Float]] = []
        for prompt in prompts {
            _ = try decoder.score(prompt.ids, top: 0) { logits in
                let total = Float(DecoderModel.logSumExp(logits))
                found.append(logits.map { $0 - total })
            }
        }
        return found
    }

    // The full distributions are not in the reference files (they would be 200 MB). Dequantized mode in f32 stands for
    // them: the test above holds it to the reference.
    @Test("memory_low's mean KL is at most llama.cpp's", arguments: [(RealModel.smollm2, 0.0035)])
    func memoryLow(model: RealModel, limit: Double) throws {
        let prompts = try prompts(model)
        let decoder = try Models.real(model, precision: .f32)
        let kernels = try Kernels.fromEnvironment()
        try decoder.setAll(expanded: true, kernels: kernels)
        let exact = try logProbabilities(decoder, prompts)
        try decoder.setAll(expanded: false, kernels: kernels)
        let quantized = try logProbabilities(decoder, prompts)
        var total = 0.0
        for (p, q) in zip(exact, quantized) {
            total += zip(p, q).reduce(0.0) { $0 + Double(expf($1.0) * ($1.0 - $1.1)) }
        }
        let mean = total / Double(exact.count)
        print("mean KL(dequantized f32, memory_low) of \(model.rawValue): \(mean) nats over \(exact.count) positions")
        #expect(mean <= limit)
        #expect(mean > 0)
    }
}
