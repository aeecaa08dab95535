import Quantization
import Testing
import TestKit

/// Quantizes a channel and returns what it becomes.
func roundTrip(
    _ row: [Float], bits: Int, block: Int, asymmetric: Bool = true, scale: ScaleKind = .f16,
    _ method: QuantizationMethod, weights: [Float]? = nil
) throws -> [Float] {
    let scheme = try Scheme(bits: bits, block: block, asymmetric: asymmetric, scale: scale)
    let code = ChannelCode(scheme: scheme, k: row.count)
    try BlockQuantizer(scheme: scheme, method: method).encode(row, weights: weights, into: code)
    var out = [Float](repeating: .nan, count: row.count)
    code.dequantize(into: &out)
    return out
}

func squaredError(_ a: [Float], _ b: [Float]) -> Double {
    zip(a, b).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
}

@Suite("Block quantization")
struct BlockQuantizerTests {
    private static let methods: [QuantizationMethod] = [.minmax, .mse, .hqq]

    @Test("Min/max is within a step of every weight, at every width, block and remainder", arguments: 2...8)
    func withinAStep(bits: Int) throws {
        var random = TestRandom(seed: UInt64(bits))
        for block in [-1, 16, 32, 64, 128, 256] {
            for k in [1, 5, 16, 31, 32, 33, 100, 384] {
                let row = random.floats(k)
                for asymmetric in [true, false] {
                    let found = try roundTrip(row, bits: bits, block: block, asymmetric: asymmetric, .minmax)
                    // The range of a block is at most the row's. Symmetric: the extreme of the other sign may be clipped.
                    let (low, high) = (row.min() ?? 0, row.max() ?? 0)
                    let step =
                        asymmetric
                        ? (high - low) / Float((1 << bits) - 1) : max(-low, high) / Float(1 << (bits - 1))
                    for (a, b) in zip(row, found) {
                        #expect(abs(a - b) <= step * 1.01 + max(abs(low), abs(high)) / 1000, "\(bits) \(block) \(k)")
                    }
                }
            }
        }
    }

    @Test("A search is never worse than min/max, and HQQ never worse than the search", arguments: 2...8)
    func neverWorse(bits: Int) throws {
        var random = TestRandom(seed: UInt64(bits))
        for block in [-1, 32, 64] {
            for asymmetric in [true, false] {
                for round in 0..<20 {
                    // Heavy tails, as weights have.
                    let row = random.floats(192).map { $0 * $0 * $0 * (round % 3 == 0 ? 5 : 0.1) }
                    let errors = try Self.methods.map {
                        squaredError(row, try roundTrip(row, bits: bits, block: block, asymmetric: asymmetric, $0))
                    }
                    #expect(errors[1] <= errors[0] * 1.0001 && errors[2] <= errors[1] * 1.0001)
                }
            }
        }
    }

    @Test("Weighted, a search minimizes the weighted error")
    func weighted() throws {
        var random = TestRandom(seed: 3)
        let row = random.floats(32)
        var weights = [Float](repeating: 0.01, count: 32)
        weights[7] = 100
        let found = try roundTrip(row, bits: 2, block: 32, .mse, weights: weights)
        #expect(abs(found[7] - row[7]) < 0.02)
    }

    @Test("Constant and zero blocks come back as what they are", arguments: [QuantizationMethod.minmax, .mse, .hqq])
    func constants(method: QuantizationMethod) throws {
        for value in [Float(0), 0.37, -12, 1e-7] {
            for asymmetric in [true, false] {
                let found = try roundTrip(
                    Array(repeating: value, count: 48), bits: 4, block: 32, asymmetric: asymmetric, method)
                for x in found { #expect(abs(x - value) <= max(abs(value) / 1000, 8 * 6e-8)) }
            }
        }
    }

    @Test("No weight becomes NaN or infinity, however small or large")
    func finite() throws {
        var random = TestRandom(seed: 9)
        for exponent in stride(from: Float(-38), through: 4, by: 1) {
            let row = random.floats(64).map { $0 * .init(sign: .plus, exponent: Int(exponent), significand: 1) }
            for method in Self.methods {
                #expect(try roundTrip(row, bits: 3, block: 32, method).allSatisfy { $0.isFinite })
            }
        }
    }

    @Test("What is too large for f16 scales is refused, and fits f32 scales")
    func tooLarge() throws {
        let row: [Float] = [1e6, -2e6, 3, 4e5]
        #expect(throws: SchemeError.self) { try roundTrip(row, bits: 8, block: 32, .minmax) }
        let found = try roundTrip(row, bits: 8, block: 32, scale: .f32, .minmax)
        #expect(abs(found[1] + 2e6) < 2e4)
    }

    @Test("Zero is a level where a block's range contains it")
    func zeroIsALevel() throws {
        var row: [Float] = Array(repeating: 0, count: 32)
        (row[3], row[9]) = (-0.31, 0.77)
        let found = try roundTrip(row, bits: 2, block: 32, .minmax)
        #expect(abs(found[0]) < 1e-3)
    }
}
