import CKernels
import Glibc

/// The rows of one step of an encoder: tokens of whole texts, one after another without padding.
///
/// Used by one thread at a time.
final class EncoderStep {
    /// Rows that a step takes at most: a text's longest.
    static let rowLimit = 1024
    /// Rows of whole texts that go through the layers together: more of them leave the second-level cache.
    static let rowsAtOnce = 512

    private struct Slice {
        let firstRow: Int
        let count: Int
    }

    let config: EncoderConfig
    private let kernels: UnsafePointer<ebb_kernels>
    private let pool: WorkerPool
    let products: MatrixProducts
    private let memory: AnonymousMemory
    private let attention: EncoderAttention
    private var rows = 0
    private var slices: [Slice] = []

    /// The residual stream, [rows][hidden].
    let hidden: UnsafeMutablePointer<Float>
    /// [rows][hidden] each.
    let q, k, v, attended, part: UnsafeMutablePointer<Float>
    /// [rows][feed_forward].
    let wide: UnsafeMutablePointer<Float>

    init(config: EncoderConfig, kernels: Kernels, pool: WorkerPool) throws {
        self.config = config
        self.kernels = kernels.table
        self.pool = pool
        products = MatrixProducts(kernels: kernels, pool: pool)
        attention = try EncoderAttention(config: config, kernels: kernels, threads: pool.threads)
        let width = (config.hidden + 15) / 16 * 16 * Self.rowLimit
        memory = try AnonymousMemory(
            byteCount: (6 * width + (config.feedForward + 15) / 16 * 16 * Self.rowLimit) * 4)
        let base = memory.base.assumingMemoryBound(to: Float.self)
        (hidden, q, k, v) = (base, base + width, base + 2 * width, base + 3 * width)
        (attended, part, wide) = (base + 4 * width, base + 5 * width, base + 6 * width)
    }

    /// The mappings of the rows, of what products read, and of attention.
    var regions: [MemoryRegion] { [memory.region, attention.region] + products.regions }

    /// Gives the pages of all buffers back.
    func discard() {
        memory.discard()
        attention.discard()
        products.discard()
    }

    func admit(rows: Int) throws {
        try products.admit(rows: rows, widest: max(config.hidden, config.feedForward), block: 32)
    }

    /// Takes texts' tokens: hidden = LayerNorm(token + position + type).
    func begin(_ batch: ArraySlice<[Int32]>, _ family: Bert) {
        slices.removeAll(keepingCapacity: true)
        rows = 0
        for tokens in batch {
            slices.append(Slice(firstRow: rows, count: tokens.count))
            rows += tokens.count
        }
        let width = config.hidden
        let type = part + (Self.rowLimit - 1) * width
        lookUp(family.types, 0, type)
        pool.run(items: slices.count, grain: 1) { range, _ in
            for index in range {
                let tokens = batch[batch.startIndex + index]
                for (position, token) in tokens.enumerated() {
                    let row = slices[index].firstRow + position
                    let (out, more) = (hidden + row * width, q + row * width)
                    lookUp(family.tokens, Int(token), out)
                    lookUp(family.positions, position, more)
                    kernels.pointee.add(out, more, UInt32(width))
                    kernels.pointee.add(out, type, UInt32(width))
                    normalize(out, family.embeddingNorm)
                }
            }
        }
    }

    private func lookUp(_ table: LinearRef, _ row: Int, _ out: UnsafeMutablePointer<Float>) {
        withUnsafePointer(to: table.pointee.table) { ebb_dequantize_channel($0, UInt32(row), out) }
    }

    private func normalize(_ row: UnsafeMutablePointer<Float>, _ norm: LayerNorm) {
        kernels.pointee.layer_norm(row, norm.weight, norm.bias, row, UInt32(config.hidden), config.epsilon)
    }

    // MARK: Operations of families

    /// out = input W^T, without the biases, for up to three weights that read the same input.
    func project(
        _ input: UnsafeMutablePointer<Float>, _ a: BiasedLinear, to aOut: UnsafeMutablePointer<Float>,
        _ b: BiasedLinear? = nil, to bOut: UnsafeMutablePointer<Float>? = nil, _ c: BiasedLinear? = nil,
        to cOut: UnsafeMutablePointer<Float>? = nil
    ) {
        products.run(rows: rows, (a.weight, aOut), b?.weight, bOut, c?.weight, cOut) { _ in input }
    }

    /// out = gelu(input + bias) W^T; changes the input.
    func projectActivated(
        _ input: UnsafeMutablePointer<Float>, bias: VectorRef, _ a: BiasedLinear,
        to out: UnsafeMutablePointer<Float>
    ) {
        let width = config.feedForward
        products.run(rows: rows, (a.weight, out)) { range in
            for row in range { kernels.pointee.gelu(input + row * width, bias, UInt32(width)) }
            return input
        }
    }

    /// hidden = LayerNorm(hidden + part + bias).
    func addAndNormalize(_ part: UnsafeMutablePointer<Float>, _ bias: VectorRef, _ norm: LayerNorm) {
        let width = config.hidden
        pool.run(items: rows, grain: 16) { range, _ in
            for row in range {
                let out = hidden + row * width
                kernels.pointee.add(out, part + row * width, UInt32(width))
                kernels.pointee.add(out, bias, UInt32(width))
                normalize(out, norm)
            }
        }
    }

    /// softmax((q + b_q) (k + b_k)^T / sqrt(head_dim)) (v + b_v) over each text.
    func attend(_ layer: Int, _ w: Bert.Layer) {
        let width = config.hidden
        let scale = 1 / Float(config.headDim).squareRoot()
        pool.run(items: rows, grain: 16) { range, _ in
            for row in range {
                let query = q + row * width
                kernels.pointee.add(query, w.query.bias, UInt32(width))
                for i in 0..<width { query[i] *= scale }
                kernels.pointee.add(k + row * width, w.key.bias, UInt32(width))
                kernels.pointee.add(v + row * width, w.value.bias, UInt32(width))
            }
        }
        products.probe?.attention(layer: layer, query: q, key: k, value: v, count: rows)
        let isExact = !w.query.weight.pointee.readsIntegers
        let fixed = isExact ? nil : w.attentionScales
        let heads = config.heads
        pool.run(items: slices.count * heads, grain: 1) { range, thread in
            for item in range {
                let slice = slices[item / heads]
                let start = slice.firstRow * width + item % heads * config.headDim
                let view = EncoderAttention.Head(
                    query: q + start, key: k + start, value: v + start, out: attended + start, tokens: slice.count)
                if let fixed {
                    attention.runFixed(view, scales: fixed, thread: thread)
                } else {
                    attention.run(view, inBf16: !isExact, thread: thread, scratch: pool.scratch(thread))
                }
            }
        }
    }

    // MARK: Results

    /// Pools each text's rows, in order: `body` gets its index and embedding [hidden].
    func pool(_ body: (Int, [Float]) -> Void) {
        let width = config.hidden
        for (index, slice) in slices.enumerated() {
            var sum = [Float](repeating: 0, count: width)
            let taken = config.pooling == .cls ? 1 : slice.count
            for row in slice.firstRow..<slice.firstRow + taken {
                for i in 0..<width { sum[i] += hidden[row * width + i] }
            }
            var length: Float = 0
            for i in 0..<width {
                sum[i] /= Float(taken)
                length += sum[i] * sum[i]
            }
            if config.normalize {
                let factor = 1 / max(length.squareRoot(), 1e-12)
                for i in 0..<width { sum[i] *= factor }
            }
            body(index, sum)
        }
    }
}
