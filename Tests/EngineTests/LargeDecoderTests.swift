import Foundation
import TestKit
import Testing

/// Qwen2.5-Coder-1.5B beside its reference, by the tests of the small models: NumPy over the weights as the `gguf` package
/// dequantizes them, as theirs, but in float32. An expansion to f32 takes 6 GB.
@Suite("Large decoders", .enabled(if: RealModel.testsLarge), .serialized)
struct LargeDecoderTests {
    @Test("Dequantized logits agree to 1e-3 of their range, and clear greedy tokens are equal")
    func dequantized() throws { try ReferenceTests().dequantized(model: .qwen2Large) }

    /// The mark is llama.cpp's mean KL with the family's model of a third the size. A text's first token is left out: all
    /// tokens after it attend to it, for which it has values thousands of times as large as theirs; in 8 bits they drown
    /// what its own logits are made of (0.16 to 0.29 nats), which nobody asks for.
    @Test("After a text's first token memory_low's mean KL is at most llama.cpp's")
    func memoryLow() throws {
        let tests = ReferenceTests()
        let exact = try Models.real(.qwen2Large, precision: .f32)
        try exact.setAll(expanded: true)
        let quantized = try Models.real(.qwen2Large)
        var found: [Float] = []
        for prompt in try tests.prompts(.qwen2Large) {
            let rows = zip(
                try tests.logProbabilities(exact, prompt), try tests.logProbabilities(quantized, prompt))
            found += rows.dropFirst().map { zip($0, $1).reduce(0) { $0 + expf($1.0) * ($1.0 - $1.1) } }
        }
        let mean = found.reduce(0, +) / Float(found.count)
        print("mean KL(dequantized f32, memory_low) of qwen2-1.5b: \(mean) nats over \(found.count) positions")
        #expect(mean <= 0.0013 && mean > 0)
    }
}
