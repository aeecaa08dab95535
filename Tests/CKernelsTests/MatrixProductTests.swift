import CKernels
import Quantization
import Testing
import TestKit

/// Schemes that the layout holds: every width and table of values with every kind of scale and block.
private let schemes: [Scheme] = {
    var all: [Scheme] = []
    for bits in 2...8 {
        for block in [-1, 16, 32, 64, 128, 256] {
            for asymmetric in [false, true] {
                for scale in ScaleKind.allCases {
                    all += ValueTable.allCases.compactMap {
                        try? Scheme(bits: bits, block: block, asymmetric: asymmetric, scale: scale, values: $0)
                    }
                }
            }
        }
    }
    return all
}()

@Suite("Matrix products")
struct MatrixProductTests {
    /// Shapes with remainders in channels, in k and in rows.
    private static let shapes: [(n: Int, k: Int, rows: Int)] = [
        (1, 1, 1), (16, 32, 1), (17, 33, 2), (31, 100, 3), (48, 256, 1), (40, 288, 9), (5, 576, 17), (33, 1056, 4),
        (16, 2080, 8),
    ]

    @Test("An integer product agrees with plain C for every scheme and odd shapes", arguments: schemes)
    func integerProductAgreesWithPlain(scheme: Scheme) throws {
        var random = TestRandom(seed: UInt64(scheme.bits * 1000 + scheme.block))
        for (n, k, rows) in Self.shapes {
            let matrix = try TestMatrix(.quantized(scheme), n: n, k: k, random: &random)
            let values = random.floats(rows * k)
            for block in [16, 32] {
                let a = TestActivations(rows: rows, k: k, block: block, values: values, table: KernelTables.plain)
                let expected = Product.run(KernelTables.plain, matrix, a, integers: true)
                for (name, table) in KernelTables.others {
                    let found = Product.run(table, matrix, a, integers: true)
                    #expect(relativeError(expected, found) < 2e-5, "\(name) n \(n) k \(k) rows \(rows) block \(block)")
                }
            }
        }
    }

    @Test(
        "An integer product is the product of the dequantized matrices",
        arguments: schemes.filter { $0.block == 32 || $0.block == 16 })
    func integerProductIsTheProduct(scheme: Scheme) throws {
        var random = TestRandom(seed: 3)
        let matrix = try TestMatrix(.quantized(scheme), n: 20, k: 320, random: &random)
        let a = TestActivations(rows: 3, k: 320, block: 32, values: random.floats(3 * 320), table: KernelTables.plain)
        let weights = matrix.dequantized
        var expected: [Float] = []
        for row in 0..<3 {
            for channel in weights {
                var sum = 0.0
                for i in 0..<320 {
                    let q = a.quants[(i / 4 * 3 + row) * 4 + i % 4]
                    sum += Double(channel[i]) * Double(q) * Double(a.scales[i / 32 * 3 + row])
                }
                expected.append(Float(sum))
            }
        }
        #expect(relativeError(expected, Product.run(KernelTables.plain, matrix, a, integers: true)) < 2e-5)
    }

    @Test("A float product agrees with plain C", arguments: [Encoding.f32, .f16, .bf16])
    func floatProductAgreesWithPlain(encoding: Encoding) throws {
        var random = TestRandom(seed: 11)
        for (n, k, rows) in Self.shapes {
            let matrix = try TestMatrix(encoding, n: n, k: k, random: &random)
            let a = TestActivations(
                rows: rows, k: k, block: 32, values: random.floats(rows * k), table: KernelTables.plain)
            let expected = Product.run(KernelTables.plain, matrix, a, integers: false)
            for (name, table) in KernelTables.others {
                let found = Product.run(table, matrix, a, integers: false)
                #expect(relativeError(expected, found) < 2e-5, "\(name) n \(n) k \(k) rows \(rows)")
            }
        }
    }

    @Test("A bf16 product is plain C's of activations that were rounded before")
    func bf16Product() throws {
        var random = TestRandom(seed: 12)
        for (n, k, rows) in Self.shapes + [(70, 65, 11), (33, 515, 40)] {
            let matrix = try TestMatrix(.bf16, n: n, k: k, random: &random)
            let values = random.floats(rows * k).map { ebb_bf16_to_f32(ebb_f32_to_bf16($0)) }
            let plain = TestActivations(rows: rows, k: k, block: 32, values: values, table: KernelTables.plain)
            let expected = Product.run(KernelTables.plain, matrix, plain, integers: false)
            for (name, table) in KernelTables.others where table.matmul_bf16 != nil {
                let a = TestActivations(rows: rows, k: k, block: 32, values: values, table: table)
                let found = Product.run(table, matrix, a, integers: false, inBf16: true)
                #expect(relativeError(expected, found) < 2e-5, "\(name) n \(n) k \(k) rows \(rows)")
            }
        }
    }

    @Test("Expansion gives every value of the definition", arguments: schemes)
    func expansionGivesEveryValue(scheme: Scheme) throws {
        var random = TestRandom(seed: 5)
        for (n, k) in [(17, 100), (16, 256), (3, 544)] {
            let matrix = try TestMatrix(.quantized(scheme), n: n, k: k, random: &random)
            let expected = matrix.dequantized
            for (name, table) in [("plain", KernelTables.plain)] + KernelTables.others {
                var view = matrix.view
                let tiles = (n + 15) / 16
                var out = [Float](repeating: .nan, count: tiles * k * 16)
                table.expand(&view, 0, UInt32(tiles), EBB_ENCODING_F32.rawValue, &out)
                var halves = [UInt16](repeating: 0, count: tiles * k * 16)
                table.expand(&view, 0, UInt32(tiles), EBB_ENCODING_F16.rawValue, &halves)
                var brains = halves
                table.expand(&view, 0, UInt32(tiles), EBB_ENCODING_BF16.rawValue, &brains)
                for channel in 0..<n {
                    let row = (0..<k).map { out[(channel / 16 * k + $0) * 16 + channel % 16] }
                    #expect(relativeError(expected[channel], row) < 1e-6, "\(name) channel \(channel)")
                    let half = (0..<k).map { ebb_f16_to_f32(halves[(channel / 16 * k + $0) * 16 + channel % 16]) }
                    #expect(relativeError(expected[channel], half) < 0x1p-10, "\(name) f16 channel \(channel)")
                    let brain = (0..<k).map { ebb_bf16_to_f32(brains[(channel / 16 * k + $0) * 16 + channel % 16]) }
                    #expect(relativeError(expected[channel], brain) < 0x1p-8, "\(name) bf16 channel \(channel)")
                }
            }
        }
    }
}
