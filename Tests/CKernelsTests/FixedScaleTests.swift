import CKernels
import Quantization
import Testing
import TestKit

@Suite("Products with fixed scales")
struct FixedScaleTests {
    private static let shapes: [(n: Int, k: Int, rows: Int)] = [
        (1, 1, 1), (16, 32, 1), (17, 33, 2), (31, 100, 3), (48, 384, 8), (40, 288, 9), (5, 576, 17), (33, 1536, 12),
    ]

    private func scheme() throws -> Scheme { try #require(Scheme.fixedInput) }

    /// Rows quantized by a table, with a multiplier for each input channel.
    private func quantized(_ table: ebb_kernels, rows: Int, k: Int, seed: UInt64) -> TestActivations {
        var random = TestRandom(seed: seed)
        let a = TestActivations(rows: rows, k: k, block: 32, values: random.floats(rows * k), table: KernelTables.plain)
        let multipliers = random.floats(k).map { abs($0) * 300 }
        var view = a.view
        for row in stride(from: 0, to: rows, by: 8) {
            table.quantize_static(a.values, k, UInt32(row), UInt32(min(8, rows - row)), multipliers, &view)
        }
        return a
    }

    @Test("Rows quantized with fixed scales are equal in every instruction set")
    func quantization() {
        for (_, k, rows) in Self.shapes {
            let expected = quantized(KernelTables.plain, rows: rows, k: k, seed: 5)
            #expect(expected.quants.contains { $0 == 127 || $0 == -127 } || k * rows < 30, "some values are clipped")
            for (name, table) in KernelTables.others {
                let found = quantized(table, rows: rows, k: k, seed: 5)
                #expect(found.quants == expected.quants, "\(name) \(k) \(rows)")
                #expect(found.sums32.prefix(rows) == expected.sums32.prefix(rows), "\(name) \(k) \(rows)")
            }
        }
    }

    @Test("A product with fixed scales agrees with plain C for odd shapes")
    func products() throws {
        for (n, k, rows) in Self.shapes {
            var random = TestRandom(seed: 11)
            let matrix = try TestMatrix(.quantized(try scheme()), n: n, k: k, random: &random)
            let a = quantized(KernelTables.plain, rows: rows, k: k, seed: 6)
            let expected = product(KernelTables.plain, matrix, a)
            #expect(expected.allSatisfy { $0.isFinite })
            for (name, table) in KernelTables.others {
                #expect(relativeError(expected, product(table, matrix, a)) < 1e-6, "\(name) \(n) \(k) \(rows)")
            }
        }
    }

    private func product(_ table: ebb_kernels, _ matrix: TestMatrix, _ a: TestActivations) -> [Float] {
        var (w, view) = (matrix.view, a.view)
        var out = [Float](repeating: .nan, count: a.rows * matrix.n)
        let tiles = UInt32((matrix.n + 15) / 16)
        table.matmul_s(&w, &view, 0.01, 0, tiles / 2, &out, matrix.n)
        table.matmul_s(&w, &view, 0.01, tiles / 2, tiles, &out, matrix.n)
        return out
    }

    @Test("Keys and values laid out as weights multiply as the rows that they are", arguments: [1, 15, 16, 33, 70])
    func attentionTiles(tokens: Int) {
        let (dim, width) = (32, 80)
        var random = TestRandom(seed: UInt64(tokens))
        let x = random.floats(tokens * width)
        let keys = UnsafeMutablePointer<Float>.allocate(capacity: (tokens + 15) / 16 * 16 * dim)
        let values = UnsafeMutablePointer<Float>.allocate(capacity: tokens * dim)
        defer {
            keys.deallocate()
            values.deallocate()
        }
        ebb_key_tiles(x, width, UInt32(tokens), UInt32(dim), keys)
        ebb_value_tiles(x, width, UInt32(tokens), UInt32(dim), values)
        for token in 0..<tokens {
            for d in 0..<dim {
                #expect(keys[(token / 16 * dim + d) * 16 + token % 16] == x[token * width + d])
                #expect(values[(d / 16 * tokens + token) * 16 + d % 16] == x[token * width + d])
            }
        }
    }

    @Test("The same in bf16 is each value rounded", arguments: [1, 8, 15, 16, 33, 70])
    func attentionTilesBf16(tokens: Int) {
        let (dim, width) = (48, 80)
        var random = TestRandom(seed: UInt64(tokens))
        let x = random.floats(tokens * width)
        for (name, table) in KernelTables.others {
            guard let keyTiles = table.key_tiles_bf16, let valueTiles = table.value_tiles_bf16 else { continue }
            var keys = [UInt16](repeating: 1, count: (tokens + 15) / 16 * 16 * dim)
            var values = [UInt16](repeating: 1, count: tokens * dim)
            keyTiles(x, width, UInt32(tokens), UInt32(dim), &keys)
            valueTiles(x, width, UInt32(tokens), UInt32(dim), &values)
            for token in 0..<(tokens + 15) / 16 * 16 {
                for d in 0..<dim {
                    let expected = token < tokens ? ebb_f32_to_bf16(x[token * width + d]) : 0
                    #expect(keys[(token / 16 * dim + d) * 16 + token % 16] == expected, "\(name)")
                    guard token < tokens else { continue }
                    #expect(values[(d / 16 * tokens + token) * 16 + d % 16] == expected, "\(name)")
                }
            }
        }
    }

    @Test("The same in 8 bits is within half a step, clipped at 127", arguments: [1, 15, 16, 33, 70])
    func attentionTiles8(tokens: Int) {
        let (dim, width, multiplier) = (32, 80, Float(100))
        var random = TestRandom(seed: UInt64(tokens))
        let x = random.floats(tokens * width)
        let keyBytes = ebb_static_bytes(UInt32(tokens), UInt32(dim))
        let valueBytes = ebb_static_bytes(UInt32(dim), UInt32(tokens))
        let keys = UnsafeMutablePointer<UInt8>.allocate(capacity: keyBytes)
        let values = UnsafeMutablePointer<UInt8>.allocate(capacity: valueBytes)
        defer {
            keys.deallocate()
            values.deallocate()
        }
        ebb_key_tiles_8(x, width, UInt32(tokens), UInt32(dim), multiplier, keys)
        ebb_value_tiles_8(x, width, UInt32(tokens), UInt32(dim), multiplier, values)
        var (keyMatrix, valueMatrix) = (
            ebb_static_matrix(keys, UInt32(tokens), UInt32(dim)), ebb_static_matrix(values, UInt32(dim), UInt32(tokens))
        )
        func expected(_ token: Int, _ d: Int) -> Float { min(max(x[token * width + d] * multiplier, -127), 127) }
        var row = [Float](repeating: 0, count: max(dim, tokens))
        for token in 0..<tokens {
            ebb_dequantize_channel(&keyMatrix, UInt32(token), &row)
            for d in 0..<dim { #expect(abs(row[d] - expected(token, d)) <= 0.5001) }
        }
        for d in 0..<dim {
            ebb_dequantize_channel(&valueMatrix, UInt32(d), &row)
            for token in 0..<tokens { #expect(abs(row[token] - expected(token, d)) <= 0.5001) }
        }
    }
}
