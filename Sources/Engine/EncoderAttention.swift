import CKernels

/// One head's attention over one text, by the matrix product kernels: keys and values are laid out as weights, so
/// scores and result are two products with a softmax between them.
final class EncoderAttention {
    struct Head {
        let query, key, value: UnsafeMutablePointer<Float>
        /// From a token's values to the next one's, of queries, and of keys and values.
        let queryStride, keyStride: Int
        /// [tokens][width].
        let out: UnsafeMutablePointer<Float>
        let tokens: Int
        let reach: Reach
        /// Added to scores by the key's distance from the query; nil for nothing.
        var bias: VectorRef?
        /// Scores s become softcap * tanh(s / softcap); 0 for none.
        var softcap: Float = 0
        /// A score that takes part in the softmax with no value; nil for none.
        var sink: Float?

        /// What token `row` sees.
        func seen(by row: Int) -> Range<Int> {
            max(0, row - min(row, reach.before))..<min(tokens, row + min(reach.after, tokens) + 1)
        }
    }

    /// How many tokens before and after a token it sees.
    struct Reach {
        let before, after: Int

        static let all = Reach(before: .max, after: .max)
    }

    /// Query rows at a time: scores of 64 x 512 tokens stay in the second-level cache.
    private static let chunk = 64

    private let kernels: UnsafePointer<ebb_kernels>
    private let width: Int
    private let headDim: Int
    private let memory: AnonymousMemory
    private let perThread: Int
    private let sizes: [Int]

    /// - Parameters:
    ///   - width: of a row of results: all heads.
    ///   - longest: tokens of a text at most.
    init(width: Int, headDim: Int, longest: Int, kernels: Kernels, threads: Int) throws {
        self.kernels = kernels.table
        (self.width, self.headDim) = (width, headDim)
        let tokens = (longest + 31) / 32 * 32
        let widest = max(tokens, (headDim + 31) / 32 * 32)
        // Keys, values, scores; then what packed rows take: q, sums, floats, multipliers.
        sizes = [
            tokens * headDim * 4, tokens * headDim * 4, Self.chunk * tokens * 4, Self.chunk * widest,
            Self.chunk * (widest / 32) * 4, Self.chunk * widest * 4, widest * 4,
        ].map { ($0 + 4096) / 64 * 64 }
        perThread = sizes.reduce(0, +)
        memory = try AnonymousMemory(byteCount: perThread * threads)
    }

    var region: MemoryRegion { memory.region }
    func discard() { memory.discard() }

    private struct Scratch {
        let keys, values: UnsafeMutableRawPointer
        let scores: UnsafeMutablePointer<Float>
        var rows = ebb_activations()
        let multipliers: UnsafeMutablePointer<Float>
    }

    private func scratch(_ thread: Int) -> Scratch {
        var at = memory.base + thread * perThread
        func next(_ index: Int) -> UnsafeMutableRawPointer {
            defer { at += sizes[index] }
            return at
        }
        let (keys, values) = (next(0), next(1))
        let scores = next(2).assumingMemoryBound(to: Float.self)
        var rows = ebb_activations()
        rows.block = 32
        rows.q = next(3).assumingMemoryBound(to: Int8.self)
        rows.sum32 = next(4).assumingMemoryBound(to: Int32.self)
        let packed = next(5)  // one of the two
        rows.f = packed.assumingMemoryBound(to: Float.self)
        rows.pairs = packed.assumingMemoryBound(to: UInt32.self)
        return Scratch(
            keys: keys, values: values, scores: scores, rows: rows,
            multipliers: next(6).assumingMemoryBound(to: Float.self))
    }

    private func shape(_ a: inout ebb_activations, rows: Int, k: Int) {
        (a.rows, a.k, a.kp) = (UInt32(rows), UInt32(k), UInt32((k + 31) / 32 * 32))
    }

    /// In floats; where that is wanted and the CPU can, rounded to bf16 before the two products.
    func run(_ head: Head, inBf16: Bool, thread: Int, scratch panel: UnsafeMutableRawPointer) {
        let inBf16 = inBf16 && kernels.pointee.matmul_bf16 != nil
        var s = scratch(thread)
        let (tokens, dim) = (head.tokens, headDim)
        if inBf16 {
            let (keys, values) = (
                s.keys.assumingMemoryBound(to: UInt16.self), s.values.assumingMemoryBound(to: UInt16.self)
            )
            kernels.pointee.key_tiles_bf16?(head.key, head.keyStride, UInt32(tokens), UInt32(dim), keys)
            kernels.pointee.value_tiles_bf16?(head.value, head.keyStride, UInt32(tokens), UInt32(dim), values)
        } else {
            let (keys, values) = (
                s.keys.assumingMemoryBound(to: Float.self), s.values.assumingMemoryBound(to: Float.self)
            )
            ebb_key_tiles(head.key, head.keyStride, UInt32(tokens), UInt32(dim), keys)
            ebb_value_tiles(head.value, head.keyStride, UInt32(tokens), UInt32(dim), values)
        }
        var keyMatrix = matrix(s.keys, n: tokens, k: dim, inBf16)
        var valueMatrix = matrix(s.values, n: dim, k: tokens, inBf16)
        let pack = inBf16 ? kernels.pointee.pack_bf16 : kernels.pointee.pack
        let multiply = inBf16 ? kernels.pointee.matmul_bf16 : kernels.pointee.matmul_f
        func packRows(_ from: UnsafePointer<Float>, _ ld: Int, _ count: Int, k: Int) {
            shape(&s.rows, rows: count, k: k)
            for row in stride(from: 0, to: count, by: 8) {
                pack?(from, ld, UInt32(row), UInt32(min(8, count - row)), &s.rows)
            }
        }
        for first in stride(from: 0, to: tokens, by: Self.chunk) {
            let count = min(Self.chunk, tokens - first)
            // In whole tiles of keys.
            let start = head.seen(by: first).lowerBound / 16 * 16
            let end = head.seen(by: first + count - 1).upperBound
            packRows(head.query + first * head.queryStride, head.queryStride, count, k: dim)
            multiply?(
                &keyMatrix, &s.rows, UInt32(start / 16), UInt32((end + 15) / 16), s.scores, tokens, panel)
            for row in 0..<count { softmax(s.scores + row * tokens, first + row, head, start..<end) }
            packRows(s.scores + start, tokens, count, k: end - start)
            let out = head.out + first * width
            guard end - start < tokens else {
                multiply?(&valueMatrix, &s.rows, 0, UInt32(dim / 16), out, width, panel)
                continue
            }
            // A part of each tile's values.
            for tile in 0..<dim / 16 {
                let place = (tile * tokens + start) * 16 * (inBf16 ? 2 : 4)
                var part = matrix(s.values + place, n: 16, k: end - start, inBf16)
                multiply?(&part, &s.rows, 0, 1, out + tile * 16, width, panel)
            }
        }
    }

    /// softmax(scores + bias), or of capped scores, over what a token sees and a sink, and 0 for the rest of `computed`.
    private func softmax(_ scores: UnsafeMutablePointer<Float>, _ row: Int, _ head: Head, _ computed: Range<Int>) {
        let seen = head.seen(by: row)
        let first = scores + seen.lowerBound
        if let bias = head.bias { kernels.pointee.add(first, bias + (seen.lowerBound - row), UInt32(seen.count)) }
        if head.softcap != 0 { kernels.pointee.soft_cap(first, head.softcap, UInt32(seen.count)) }
        softmax(first, seen.count, head.sink)
        for i in computed.lowerBound..<seen.lowerBound { scores[i] = 0 }
        for i in seen.upperBound..<computed.upperBound { scores[i] = 0 }
    }

    private func softmax(_ scores: UnsafeMutablePointer<Float>, _ count: Int, _ sink: Float?) {
        guard let sink else { return kernels.pointee.softmax(scores, UInt32(count)) }
        // What lies behind the scores is another row's, or room that the buffer has.
        let behind = scores[count]
        scores[count] = sink
        kernels.pointee.softmax(scores, UInt32(count + 1))
        scores[count] = behind
    }

    private func matrix(_ tiles: UnsafeMutableRawPointer, n: Int, k: Int, _ inBf16: Bool) -> ebb_matrix {
        var matrix = ebb_matrix()
        (matrix.n, matrix.k) = (UInt32(n), UInt32(k))
        matrix.encoding = inBf16 ? EBB_ENCODING_BF16.rawValue : EBB_ENCODING_F32.rawValue
        matrix.data = UnsafePointer(tiles.assumingMemoryBound(to: UInt8.self))
        return matrix
    }

    /// In int8, with fixed scales of queries, keys and values. Probabilities count in 127ths of a row's largest, and
    /// their integers' sum, instead of 1, is what the row is divided by: flat rows lose no more than peaked ones.
    func runFixed(_ head: Head, scales: VectorRef, thread: Int) {
        var s = scratch(thread)
        let (tokens, dim) = (head.tokens, headDim)
        let (keys, values) = (
            s.keys.assumingMemoryBound(to: UInt8.self), s.values.assumingMemoryBound(to: UInt8.self)
        )
        ebb_key_tiles_8(head.key, head.keyStride, UInt32(tokens), UInt32(dim), 1 / scales[1], keys)
        ebb_value_tiles_8(head.value, head.keyStride, UInt32(tokens), UInt32(dim), 1 / scales[2], values)
        var keyMatrix = ebb_static_matrix(keys, UInt32(tokens), UInt32(dim))
        var valueMatrix = ebb_static_matrix(values, UInt32(dim), UInt32(tokens))
        let (keyTiles, valueTiles) = (UInt32((tokens + 15) / 16), UInt32(dim / 16))
        for first in stride(from: 0, to: tokens, by: Self.chunk) {
            let count = min(Self.chunk, tokens - first)
            shape(&s.rows, rows: count, k: dim)
            quantize(head.query + first * head.queryStride, head.queryStride, count, 1 / scales[0], &s)
            kernels.pointee.matmul_s(&keyMatrix, &s.rows, scales[0] * scales[1], 0, keyTiles, s.scores, tokens)
            for row in 0..<count {
                softmax(s.scores + row * tokens, first + row, head, 0..<tokens)
                largestToOne(s.scores + row * tokens, tokens)
            }
            shape(&s.rows, rows: count, k: tokens)
            quantize(s.scores, tokens, count, 127, &s)
            let out = head.out + first * width
            kernels.pointee.matmul_s(&valueMatrix, &s.rows, scales[2], 0, valueTiles, out, width)
            for row in 0..<count {
                let factor = 1 / Float(s.rows.sum32[row])
                for i in 0..<dim { out[row * width + i] *= factor }
            }
        }
    }

    /// Probabilities in parts of the largest.
    private func largestToOne(_ row: UnsafeMutablePointer<Float>, _ count: Int) {
        var low: Float = 0
        var high: Float = 0
        kernels.pointee.range(row, UInt32(count), &low, &high)
        let factor = 1 / high
        for i in 0..<count { row[i] *= factor }
    }

    private func quantize(
        _ from: UnsafePointer<Float>, _ ld: Int, _ count: Int, _ multiplier: Float, _ s: inout Scratch
    ) {
        for i in 0..<Int(s.rows.k) { s.multipliers[i] = multiplier }
        for row in stride(from: 0, to: count, by: 8) {
            kernels.pointee.quantize_static(
                from, ld, UInt32(row), UInt32(min(8, count - row)), s.multipliers, &s.rows)
        }
    }
}
