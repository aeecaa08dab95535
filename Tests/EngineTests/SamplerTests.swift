import Engine
import Testing
import TestKit

@Suite("Sampling")
struct SamplerTests {
    private func draw(_ parameters: SamplingParameters, _ logits: [Float], count: Int = 1) -> [Int32] {
        var sampler = Sampler(parameters)
        return (0..<count).map { _ in
            var copy = logits
            let token = copy.withUnsafeMutableBufferPointer { sampler.sample($0) }
            sampler.accept(token)
            return token
        }
    }

    @Test("Greedy takes the largest logit, the first of equals")
    func greedy() { #expect(draw(.greedy, [1, 5, 5, -2]) == [1]) }

    @Test("Equal seeds give equal tokens, other seeds others")
    func seeds() {
        var random = TestRandom(seed: 1)
        let logits = random.floats(1000)
        let parameters = SamplingParameters(temperature: 1, topK: 0, topP: 1, minP: 0, seed: 7)
        #expect(draw(parameters, logits, count: 50) == draw(parameters, logits, count: 50))
        var other = parameters
        other.seed = 8
        #expect(draw(parameters, logits, count: 50) != draw(other, logits, count: 50))
    }

    @Test("Tokens are drawn as often as their probability says")
    func frequencies() {
        let parameters = SamplingParameters(temperature: 1, topK: 0, topP: 1, minP: 0, seed: 3)
        let tokens = draw(parameters, [0, 1.0986123, -100], count: 4000)  // odds 1 : 3
        let share = Double(tokens.count { $0 == 1 }) / 4000
        #expect(abs(share - 0.75) < 0.03)
        #expect(!tokens.contains(2))
    }

    @Test(
        "Top-k, top-p and min-p keep the tokens that they name",
        arguments: [
            (SamplingParameters(temperature: 5, topK: 2, topP: 1, minP: 0, seed: 1), Set<Int32>([0, 1])),
            (SamplingParameters(temperature: 5, topK: 0, topP: 0.5, minP: 0, seed: 1), Set<Int32>([0])),
            (SamplingParameters(temperature: 5, topK: 0, topP: 0.8, minP: 0, seed: 1), Set<Int32>([0, 1])),
            (SamplingParameters(temperature: 5, topK: 0, topP: 1, minP: 0.3, seed: 1), Set<Int32>([0, 1])),
            (SamplingParameters(temperature: 5, topK: 1, topP: 1, minP: 0, seed: 1), Set<Int32>([0])),
        ])
    func truncation(parameters: SamplingParameters, expected: Set<Int32>) {
        let logits: [Float] = [3, 2, 0, -1]  // probabilities 0.69, 0.25, 0.034, 0.013
        #expect(Set(draw(parameters, logits, count: 200)) == expected)
    }

    @Test("The repetition penalty makes recent tokens less likely")
    func penalty() {
        var parameters = SamplingParameters.greedy
        parameters.repetitionPenalty = 2
        #expect(draw(parameters, [4, 3, 1.9], count: 3) == [0, 1, 0])
    }

    // SplitMix64's first outputs for the seed 1234567 (https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64),
    // as shares of 8: 2.80, 1.39, 4.26, 1.99, 7.12.
    @Test("A seed's stream is SplitMix64's")
    func fixedStream() {
        let parameters = SamplingParameters(temperature: 1, topK: 0, topP: 1, minP: 0, seed: 1_234_567)
        #expect(draw(parameters, [0, 0, 0, 0, 0, 0, 0, 0], count: 5) == [2, 1, 4, 1, 7])
    }

    @Test(
        "Values out of range are refused",
        arguments: [
            SamplingParameters(temperature: -1), SamplingParameters(temperature: .nan), SamplingParameters(topK: -1),
            SamplingParameters(topP: 0), SamplingParameters(topP: 1.1), SamplingParameters(minP: -0.1),
            SamplingParameters(repetitionPenalty: 0), SamplingParameters(penaltyWindow: -1),
        ])
    func validation(parameters: SamplingParameters) {
        #expect(throws: EngineError.self) { try parameters.validate() }
    }
}
