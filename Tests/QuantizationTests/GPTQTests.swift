import Quantization
import Testing
import TestKit

@Suite("GPTQ")
struct GPTQTests {
    /// Inputs whose channels are strongly correlated, [rows][k].
    private func inputs(rows: Int, k: Int, _ random: inout TestRandom) -> [Float] {
        var x: [Float] = []
        for _ in 0..<rows {
            let common = random.floats(3)
            for i in 0..<k { x.append(common[i % 3] + random.floats(1)[0] * 0.3) }
        }
        return x
    }

    private func outputError(_ row: [Float], _ found: [Float], _ x: [Float]) -> Double {
        let k = row.count
        return stride(from: 0, to: x.count, by: k).reduce(0) { sum, first in
            var difference = 0.0
            for i in 0..<k { difference += Double(x[first + i]) * Double(row[i] - found[i]) }
            return sum + difference * difference
        }
    }

    private func encode(_ row: [Float], _ scheme: Scheme, _ gram: GramMatrix) throws -> [Float] {
        let code = ChannelCode(scheme: scheme, k: row.count)
        var copy = row
        try GPTQ(scheme: scheme, gram: gram).encode(&copy, into: code)
        var out = [Float](repeating: .nan, count: row.count)
        code.dequantize(into: &out)
        return out
    }

    @Test("It loses less of the output than a search does, at every width", arguments: [2, 3, 4, 8])
    func losesLess(bits: Int) throws {
        var random = TestRandom(seed: UInt64(bits))
        for k in [33, 96] {
            let x = inputs(rows: 300, k: k, &random)
            let gram = GramMatrix(k: k)
            gram.add(x, count: 300)
            var (gptq, search) = (0.0, 0.0)
            for _ in 0..<16 {
                let row = random.floats(k)
                let scheme = try Scheme(bits: bits, block: 32, asymmetric: true)
                gptq += outputError(row, try encode(row, scheme, gram), x)
                search += outputError(row, try roundTrip(row, bits: bits, block: 32, .mse), x)
            }
            #expect(gptq < search * 0.7, "\(bits) bits, k \(k): \(gptq) against \(search)")
        }
    }

    @Test("The inputs' second moments are the sums of products")
    func secondMoments() {
        var random = TestRandom(seed: 2)
        let (rows, k) = (300, 21)
        let x = random.floats(rows * k)
        let gram = GramMatrix(k: k)
        gram.add(x, count: 100)
        x.withUnsafeBufferPointer { x in if let base = x.baseAddress { gram.add(base + 100 * k, count: rows - 100) } }
        for i in 0..<k {
            for j in 0..<k {
                let expected = (0..<rows).reduce(Float(0)) { $0 + x[$1 * k + i] * x[$1 * k + j] }
                #expect(abs(gram.values[i * k + j] - expected) < 1e-3)
            }
        }
    }

    @Test("Inputs that are always zero do no harm")
    func deadInputs() throws {
        var random = TestRandom(seed: 4)
        var x = random.floats(50 * 40)
        for row in 0..<50 { for i in 0..<10 { x[row * 40 + i] = 0 } }
        let gram = GramMatrix(k: 40)
        gram.add(x, count: 50)
        let row = random.floats(40)
        let found = try encode(row, try Scheme(bits: 4, block: 32, asymmetric: true), gram)
        for (a, b) in zip(row, found) { #expect(abs(a - b) < 1.2) }
    }

    @Test("Inputs that are not finite are refused")
    func notFinite() throws {
        let gram = GramMatrix(k: 4)
        gram.add([1, .nan, 3, 4], count: 1)
        let scheme = try Scheme(bits: 4, block: 32, asymmetric: true)
        #expect(throws: SchemeError.self) { try GPTQ(scheme: scheme, gram: gram) }
    }
}
