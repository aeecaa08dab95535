import Quantization
import Testing
import TestKit

@Suite("Ranges of activations")
struct RangeTests {
    private func histogram(_ values: [Float]) -> MagnitudeHistogram {
        var histogram = MagnitudeHistogram(limit: values.map(abs).max() ?? 0)
        histogram.add(values, count: values.count)
        return histogram
    }

    @Test("Every range lies above zero and at most at the largest magnitude")
    func bounds() {
        var random = TestRandom(seed: 1)
        let values = random.floats(10_000).map { $0 * $0 * $0 * 7 }
        let found = histogram(values)
        for method in RangeMethod.allCases {
            let range = found.range(method, ema: 5)
            #expect(range > 0 && range <= found.limit * 1.0001, "\(method)")
        }
        #expect(found.range(.max, ema: 0) == found.limit)
    }

    @Test("One wild value in many moves all but the maximum's range")
    func outlier() {
        var random = TestRandom(seed: 2)
        let found = histogram(random.floats(100_000) + [100])
        #expect(found.range(.max, ema: 1) == 100)
        for method in [RangeMethod.percentile, .kl, .mse, .ema] {
            #expect(found.range(method, ema: 1) < 90, "\(method)")
        }
    }

    @Test("What was always zero has the range zero")
    func zeros() {
        let found = histogram(Array(repeating: 0, count: 100))
        for method in RangeMethod.allCases { #expect(found.range(method, ema: 0) == 0) }
    }

    @Test("Values that are evenly spread are hardly clipped")
    func even() {
        let found = histogram((0..<100_000).map { Float($0) / 100_000 })
        for method in [RangeMethod.percentile, .kl, .mse] { #expect(found.range(method, ema: 1) > 0.9, "\(method)") }
    }
}
