import CKernels
import Glibc
import Testing
import TestKit

@Suite("Attention")
struct AttentionTests {
    private struct Case: CustomTestStringConvertible, Sendable {
        var headDim: Int
        var tokens: Int
        var position: Int
        var group: Int
        var window: Int
        var ring: Int
        var testDescription: String {
            "head \(headDim), \(tokens) tokens at \(position), group \(group), window \(window), ring \(ring)"
        }
    }

    private static let cases: [Case] = [
        Case(headDim: 16, tokens: 1, position: 0, group: 1, window: 0, ring: 0),
        Case(headDim: 64, tokens: 1, position: 31, group: 3, window: 0, ring: 0),
        Case(headDim: 64, tokens: 1, position: 100, group: 7, window: 0, ring: 0),
        Case(headDim: 64, tokens: 13, position: 20, group: 3, window: 0, ring: 0),
        Case(headDim: 80, tokens: 9, position: 33, group: 2, window: 0, ring: 0),
        Case(headDim: 48, tokens: 5, position: 64, group: 4, window: 0, ring: 0),
        Case(headDim: 256, tokens: 6, position: 90, group: 4, window: 40, ring: 0),
        Case(headDim: 256, tokens: 1, position: 200, group: 4, window: 64, ring: 3),
    ]

    private let blocks = 8
    private let kvHeads = 2

    /// One kernel's result for every row block of a case.
    /// - Parameters:
    ///   - int8: turn every second block of the cache int8 first.
    ///   - inBf16: by the kernel that rounds to bf16.
    ///   - before: what each byte of the cache was before the tokens came.
    private func run(
        _ table: ebb_kernels, _ c: Case, keys: [Float], values: [Float], queries: [Float], int8: Bool = false,
        inBf16: Bool = false, softcap: Float = 0, sinks: [Float] = [], before: UInt8 = 0
    ) -> [Float] {
        let rowsAtOnce = Int(inBf16 ? EBB_QUERY_ROWS : EBB_ROW_BLOCK)
        let headBytes = c.headDim * 32 * 2
        let blockBytes = 2 * kvHeads * headBytes
        let pool = UnsafeMutablePointer<UInt8>.allocate(capacity: blocks * blockBytes)
        pool.initialize(repeating: before, count: blocks * blockBytes)
        defer { pool.deallocate() }
        let smallBytes = kvHeads * ebb_kv_int8_bytes(UInt32(c.headDim))
        let small = UnsafeMutableRawPointer.allocate(byteCount: blocks * smallBytes, alignment: 64)
        defer { small.deallocate() }
        // Blocks lie in the pool in another order than in the sequence.
        var order = (0..<blocks).map {
            UInt32((c.ring > 0 ? c.ring : blocks) - 1 - $0 % (c.ring > 0 ? c.ring : blocks))
        }
        let width = kvHeads * c.headDim
        for token in 0..<c.position + c.tokens {
            let index = c.ring > 0 ? token / 32 % c.ring : token / 32
            table.store_kv(
                Array(keys[token * width..<(token + 1) * width]), Array(values[token * width..<(token + 1) * width]),
                pool + Int(order[index]) * blockBytes, blockBytes / 2, UInt32(kvHeads), UInt32(c.headDim),
                UInt32(token % 32))
        }
        if int8 {
            for index in order.indices where index % 2 == 0 {
                for head in 0..<kvHeads {
                    let block = UnsafeRawPointer(pool) + Int(order[index]) * blockBytes + head * headBytes
                    table.kv_to_int8(
                        block.assumingMemoryBound(to: UInt16.self),
                        (block + blockBytes / 2).assumingMemoryBound(to: UInt16.self), UInt32(c.headDim),
                        (small + index * smallBytes + head * smallBytes / kvHeads).assumingMemoryBound(to: UInt8.self))
                }
                order[index] = UInt32(index) | EBB_KV_INT8
            }
        }
        let ld = c.group * kvHeads * c.headDim
        var out = [Float](repeating: .nan, count: queries.count)
        let sinkMemory = UnsafeMutablePointer<Float>.allocate(capacity: c.group)
        for index in 0..<c.group { (sinkMemory + index).initialize(to: sinks.isEmpty ? 0 : sinks[index % sinks.count]) }
        defer { sinkMemory.deallocate() }
        for head in 0..<kvHeads {
            var view = ebb_kv_view(
                base: pool, blocks: nil, block_bytes: blockBytes, key_offset: head * headBytes,
                value_offset: blockBytes / 2 + head * headBytes, head_dim: UInt32(c.headDim),
                ring_blocks: UInt32(c.ring),
                int8_base: UnsafePointer(small.assumingMemoryBound(to: UInt8.self)), int8_block_bytes: smallBytes,
                int8_offset: head * smallBytes / kvHeads)
            order.withUnsafeBufferPointer { order in
                view.blocks = order.baseAddress
                out.withUnsafeMutableBufferPointer { out in
                    queries.withUnsafeBufferPointer { queries in
                        for first in stride(from: 0, to: c.tokens * c.group, by: rowsAtOnce) {
                            let start = head * c.group * c.headDim
                            var q = ebb_queries(
                                rows: UInt32(min(rowsAtOnce, c.tokens * c.group - first)), first: UInt32(first),
                                group: UInt32(c.group),
                                position: UInt32(c.position), window: UInt32(c.window), scale: 0.3,
                                softcap: softcap, sinks: sinks.isEmpty ? nil : sinkMemory,
                                q: queries.baseAddress.map { $0 + start }, out: out.baseAddress.map { $0 + start },
                                ld: ld)
                            if inBf16 { table.attention_bf16?(&view, &q) } else { table.attention(&view, &q) }
                        }
                    }
                }
            }
        }
        return out
    }

    @Test("Attention over KV blocks agrees with plain C", arguments: cases)
    private func agreesWithPlain(c: Case) {
        var random = TestRandom(seed: 9)
        let width = kvHeads * c.headDim
        let (keys, values) = (
            random.floats((c.position + c.tokens) * width), random.floats((c.position + c.tokens) * width)
        )
        let queries = random.floats(c.tokens * c.group * width)
        let expected = run(KernelTables.plain, c, keys: keys, values: values, queries: queries)
        for (name, table) in KernelTables.others {
            let found = run(table, c, keys: keys, values: values, queries: queries)
            #expect(relativeError(expected, found) < 1e-4, "\(name)")
        }
    }

    /// Softmax over what a token sees, in double precision and without blocks.
    private func simple(
        _ c: Case, keys: [Float], values: [Float], queries: [Float], softcap: Float, sinks: [Float]
    ) -> [Float] {
        let (width, ld) = (kvHeads * c.headDim, c.group * kvHeads * c.headDim)
        var out = [Float](repeating: 0, count: queries.count)
        for token in 0..<c.tokens {
            for head in 0..<kvHeads * c.group {
                let (end, kv) = (c.position + token + 1, head / c.group * c.headDim)
                let seen = (c.window > 0 ? max(0, end - c.window) : 0)..<end
                let q = token * ld + head * c.headDim
                var scores = seen.map { place -> Double in
                    let dot = (0..<c.headDim).reduce(0.0) {
                        $0 + Double(queries[q + $1]) * Double(Float(Float16(keys[place * width + kv + $1])))
                    }
                    return softcap > 0 ? Double(softcap) * tanh(dot * 0.3 / Double(softcap)) : dot * 0.3
                }
                if !sinks.isEmpty { scores.append(Double(sinks[head % c.group % sinks.count])) }
                let most = scores.max() ?? 0
                let weights = scores.map { exp($0 - most) }
                let sum = weights.reduce(0, +)
                for (place, weight) in zip(seen, weights) {
                    for d in 0..<c.headDim {
                        out[q + d] += Float(weight / sum * Double(Float(Float16(values[place * width + kv + d]))))
                    }
                }
            }
        }
        return out
    }

    @Test("A soft cap bounds the scores, and sinks take their share of the weights", arguments: cases)
    private func softcapAndSinks(c: Case) {
        var random = TestRandom(seed: 10)
        let width = kvHeads * c.headDim
        let (keys, values) = (
            random.floats((c.position + c.tokens) * width), random.floats((c.position + c.tokens) * width)
        )
        let queries = random.floats(c.tokens * c.group * width)
        for (softcap, sinks) in [(Float(0.8), [Float]()), (0, [1, -2, 3]), (1.5, [0.5])] {
            let expected = simple(
                c, keys: keys, values: values, queries: queries, softcap: softcap, sinks: sinks)
            for (name, table) in [("plain", KernelTables.plain)] + KernelTables.others {
                let found = run(
                    table, c, keys: keys, values: values, queries: queries, softcap: softcap, sinks: sinks)
                #expect(relativeError(expected, found) < 1e-4, "\(name), soft cap \(softcap), sinks \(sinks)")
            }
        }
    }

    private static let manyRows: [Case] = [
        Case(headDim: 64, tokens: 70, position: 20, group: 3, window: 0, ring: 0),
        Case(headDim: 64, tokens: 37, position: 200, group: 7, window: 0, ring: 0),
        Case(headDim: 48, tokens: 100, position: 0, group: 1, window: 40, ring: 0),
        Case(headDim: 80, tokens: 33, position: 31, group: 2, window: 0, ring: 0),
        Case(headDim: 256, tokens: 90, position: 70, group: 4, window: 64, ring: 0),
        Case(headDim: 256, tokens: 8, position: 200, group: 4, window: 64, ring: 3),
    ]

    @Test(
        "Attention in bf16 comes within its rounding of plain C, over f16 and int8 blocks", arguments: cases + manyRows,
        [false, true])
    private func bf16(c: Case, int8: Bool) {
        var random = TestRandom(seed: 13)
        let width = kvHeads * c.headDim
        let count = (c.position + c.tokens) * width
        // A constant in the keys, as a bias makes it, changes no weight: it must not cost precision.
        let keys = random.floats(count).enumerated().map { $1 + Float($0 % width % 7) * 20 }
        let values = random.floats(count)
        // Scores of about 1: a rounded score changes its weight by the factor e^error.
        let queries = random.floats(c.tokens * c.group * width).map { $0 * 4 / Float(c.headDim).squareRoot() }
        let expected = run(KernelTables.plain, c, keys: keys, values: values, queries: queries, int8: int8)
        for (name, table) in KernelTables.others where table.attention_bf16 != nil {
            let found = run(table, c, keys: keys, values: values, queries: queries, int8: int8, inBf16: true)
            // bf16 has 8 bits: 2^-9 of each query, key, value and weight. int8 blocks go through f16 besides, which
            // rounds keys of 120 by 0.03.
            #expect(relativeError(expected, found) < (int8 ? 0x1p-5 : 0x1p-6), "\(name)")
        }
    }

    @Test("What lies behind a sequence's last token changes no bit", arguments: cases + manyRows)
    private func behindTheLast(c: Case) {
        var random = TestRandom(seed: 16)
        let width = kvHeads * c.headDim
        let count = (c.position + c.tokens) * width
        let (keys, values) = (random.floats(count), random.floats(count))
        let queries = random.floats(c.tokens * c.group * width)
        for (name, table) in KernelTables.others {
            for inBf16 in [false, true] where !inBf16 || table.attention_bf16 != nil {
                // 0x4545 is 5.3 in f16.
                let found = [UInt8(0), 0x45].map {
                    run(
                        table, c, keys: keys, values: values, queries: queries, inBf16: inBf16,
                        sinks: inBf16 ? [] : [1, -2], before: $0
                    ).map(\.bitPattern)
                }
                #expect(found[0] == found[1], "\(name), bf16 \(inBf16)")
            }
        }
    }

    @Test("A sink of minus infinity takes nothing from the weights")
    func noSink() {
        let c = Case(headDim: 64, tokens: 20, position: 40, group: 1, window: 30, ring: 0)
        var random = TestRandom(seed: 15)
        let width = kvHeads * c.headDim
        let (keys, values) = (random.floats(60 * width), random.floats(60 * width))
        let queries = random.floats(c.tokens * width)
        let expected = run(KernelTables.plain, c, keys: keys, values: values, queries: queries)
        for (name, table) in [("plain", KernelTables.plain)] + KernelTables.others {
            let found = run(table, c, keys: keys, values: values, queries: queries, sinks: [-.infinity])
            #expect(relativeError(expected, found) < 1e-4, "\(name)")
        }
    }

    @Test("Attention over int8 blocks agrees with plain C, and comes close to f16", arguments: cases)
    private func int8Blocks(c: Case) {
        var random = TestRandom(seed: 11)
        let width = kvHeads * c.headDim
        let count = (c.position + c.tokens) * width
        // Keys with a large constant part, as a bias makes them: a scale for each channel must take it.
        let keys = random.floats(count).enumerated().map { $1 + Float($0 % width % 7) * 20 }
        let (values, queries) = (random.floats(count), random.floats(c.tokens * c.group * width).map { $0 * 0.01 })
        let exact = run(KernelTables.plain, c, keys: keys, values: values, queries: queries)
        let expected = run(KernelTables.plain, c, keys: keys, values: values, queries: queries, int8: true)
        #expect(relativeError(exact, expected) < 0.02)
        for (name, table) in KernelTables.others {
            let found = run(table, c, keys: keys, values: values, queries: queries, int8: true)
            // The kernels go through f16; plain C does not.
            #expect(relativeError(expected, found) < 2e-3, "\(name)")
        }
    }

    @Test("A block turned int8 is within half a level of what it was, and every kernel makes the same bytes")
    func int8RoundTrip() {
        var random = TestRandom(seed: 12)
        for hd in [16, 48, 64, 80, 128, 256] {
            let (keys, values) = (random.floats(32 * hd), random.floats(32 * hd))
            let (k, v) = (keys.map { ebb_f32_to_f16($0) }, values.map { ebb_f32_to_f16($0) })
            let bytes = ebb_kv_int8_bytes(UInt32(hd))
            func packed(_ table: ebb_kernels) -> [UInt8] {
                var out = [UInt8](repeating: 0, count: bytes)
                table.kv_to_int8(k, v, UInt32(hd), &out)
                return out
            }
            let plain = packed(KernelTables.plain)
            var (k2, v2) = ([UInt16](repeating: 0, count: 32 * hd), [UInt16](repeating: 0, count: 32 * hd))
            KernelTables.plain.kv_from_int8(plain, UInt32(hd), &k2, &v2)
            for d in 0..<hd {
                let channel = (0..<32).map { ebb_f16_to_f32(k[d * 32 + $0]) }
                let step = ((channel.max() ?? 0) - (channel.min() ?? 0)) / 255
                for t in 0..<32 { #expect(abs(ebb_f16_to_f32(k2[d * 32 + t]) - channel[t]) <= step * 0.5 + 2e-3) }
            }
            for t in 0..<32 {
                let row = (0..<hd).map { ebb_f16_to_f32(v[t * hd + $0]) }
                let step = (row.map(abs).max() ?? 0) / 127
                for d in 0..<hd { #expect(abs(ebb_f16_to_f32(v2[t * hd + d]) - row[d]) <= step * 0.5 + 2e-3) }
            }
            for (name, table) in KernelTables.others {
                let found = packed(table)
                // A multiplication by the reciprocal may round one level apart.
                let apart = zip(plain[..<(64 * hd)], found).map {
                    abs(Int(Int8(bitPattern: $0)) - Int(Int8(bitPattern: $1)))
                }
                #expect(apart.allSatisfy { $0 <= 1 || $0 == 255 }, "\(name) \(hd)")
            }
        }
    }

    @Test("Plain attention is softmax(q k) v")
    func isSoftmax() {
        let c = Case(headDim: 16, tokens: 3, position: 40, group: 1, window: 5, ring: 0)
        var random = TestRandom(seed: 10)
        let width = kvHeads * c.headDim
        let keys = random.floats(43 * width).map { ebb_f16_to_f32(ebb_f32_to_f16($0)) }
        let values = random.floats(43 * width).map { ebb_f16_to_f32(ebb_f32_to_f16($0)) }
        let queries = random.floats(3 * width)
        var expected: [Float] = []
        for token in 0..<3 {
            for head in 0..<kvHeads {
                let seen = (40 + token - 4)...(40 + token)
                func dot(_ t: Int) -> Double {
                    (0..<16).reduce(0.0) {
                        $0 + Double(queries[token * width + head * 16 + $1]) * Double(keys[t * width + head * 16 + $1])
                    }
                }
                var weights = seen.map { exponential(dot($0) * 0.3) }
                let total = weights.reduce(0, +)
                weights = weights.map { $0 / total }
                for d in 0..<16 {
                    expected.append(
                        Float(
                            zip(seen, weights).reduce(0.0) { $0 + $1.1 * Double(values[$1.0 * width + head * 16 + d]) })
                    )
                }
            }
        }
        #expect(
            relativeError(expected, run(KernelTables.plain, c, keys: keys, values: values, queries: queries)) < 1e-5)
    }
}
