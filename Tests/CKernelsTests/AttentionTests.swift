import CKernels
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
    private func run(_ table: ebb_kernels, _ c: Case, keys: [Float], values: [Float], queries: [Float]) -> [Float] {
        let headBytes = c.headDim * 32 * 2
        let blockBytes = 2 * kvHeads * headBytes
        let pool = UnsafeMutablePointer<UInt8>.allocate(capacity: blocks * blockBytes)
        pool.initialize(repeating: 0, count: blocks * blockBytes)
        defer { pool.deallocate() }
        // Blocks lie in the pool in another order than in the sequence.
        let order = (0..<blocks).map {
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
        let ld = c.group * kvHeads * c.headDim
        var out = [Float](repeating: .nan, count: queries.count)
        for head in 0..<kvHeads {
            var view = ebb_kv_view(
                base: pool, blocks: nil, block_bytes: blockBytes, key_offset: head * headBytes,
                value_offset: blockBytes / 2 + head * headBytes, head_dim: UInt32(c.headDim),
                ring_blocks: UInt32(c.ring))
            order.withUnsafeBufferPointer { order in
                view.blocks = order.baseAddress
                out.withUnsafeMutableBufferPointer { out in
                    queries.withUnsafeBufferPointer { queries in
                        for first in stride(from: 0, to: c.tokens * c.group, by: 8) {
                            let start = head * c.group * c.headDim
                            var q = ebb_queries(
                                rows: UInt32(min(8, c.tokens * c.group - first)), first: UInt32(first),
                                group: UInt32(c.group),
                                position: UInt32(c.position), window: UInt32(c.window), scale: 0.3,
                                q: queries.baseAddress.map { $0 + start }, out: out.baseAddress.map { $0 + start },
                                ld: ld)
                            table.attention(&view, &q)
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
