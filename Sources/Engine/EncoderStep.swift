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
    /// Embeddings on their way through dense layers, [texts][width] twice; nil where there are none.
    private let embeddings: AnonymousMemory?
    private let embeddingWidth: Int
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
        embeddingWidth = config.denses.reduce(config.hidden) { max($0, $1.outputs) }
        embeddings =
            config.denses.isEmpty ? nil : try AnonymousMemory(byteCount: 2 * Self.rowsAtOnce * embeddingWidth * 4)
        let width = (config.hidden + 15) / 16 * 16 * Self.rowLimit
        memory = try AnonymousMemory(
            byteCount: (6 * width + (config.feedForward + 15) / 16 * 16 * Self.rowLimit) * 4)
        let base = memory.base.assumingMemoryBound(to: Float.self)
        (hidden, q, k, v) = (base, base + width, base + 2 * width, base + 3 * width)
        (attended, part, wide) = (base + 4 * width, base + 5 * width, base + 6 * width)
    }

    /// The mappings of the rows, of what products read, and of attention.
    var regions: [MemoryRegion] {
        [memory.region, attention.region] + products.regions + (embeddings.map { [$0.region] } ?? [])
    }

    /// Gives the pages of all buffers back.
    func discard() {
        memory.discard()
        embeddings?.discard()
        attention.discard()
        products.discard()
    }

    func admit(rows: Int) throws {
        try products.admit(rows: rows, widest: max(config.hidden, config.feedForward, embeddingWidth), block: 32)
    }

    /// Bytes of ``regions`` once a step of so many rows has been run.
    func bytes(rows: Int) -> Int {
        memory.byteCount + attention.region.byteCount
            + ActivationBuffer.byteCount(rows: rows, k: max(config.hidden, config.feedForward), block: 32)
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
        let (b, c) = (b.flatMap { b in bOut.map(b.weight.to) }, c.flatMap { c in cOut.map(c.weight.to) })
        products.run(rows: rows, a.weight.to(aOut), b, c) { _ in input }
    }

    /// out = gelu(input + bias) W^T; changes the input.
    func projectActivated(
        _ input: UnsafeMutablePointer<Float>, bias: VectorRef, _ a: BiasedLinear,
        to out: UnsafeMutablePointer<Float>
    ) {
        let width = config.feedForward
        products.run(rows: rows, a.weight.to(out)) { range in
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

    /// Pools each text's rows, in order: `body` gets its index and embedding [embeddingLength], or nil for one that is no
    /// numbers.
    func pool(_ family: Bert, _ body: (Int, [Float]?) -> Void) {
        guard let embeddings else {
            for (index, slice) in slices.enumerated() { body(index, finished(pooled(slice))) }
            return
        }
        var from = embeddings.base.assumingMemoryBound(to: Float.self)
        var to = from + Self.rowsAtOnce * embeddingWidth
        for (index, slice) in slices.enumerated() {
            pooled(slice).withUnsafeBufferPointer {
                if let base = $0.baseAddress { (from + index * config.hidden).update(from: base, count: config.hidden) }
            }
        }
        for (dense, shape) in zip(family.denses, config.denses) {
            products.run(rows: slices.count, dense.weight.to(to)) { _ in from }
            for row in 0..<slices.count { activate(to + row * shape.outputs, dense.bias, shape) }
            swap(&from, &to)
        }
        let width = config.embeddingLength
        for index in slices.indices {
            body(index, finished(Array(UnsafeBufferPointer(start: from + index * width, count: width))))
        }
    }

    private func pooled(_ slice: Slice) -> [Float] {
        let width = config.hidden
        var sum = [Float](repeating: 0, count: width)
        let taken = config.pooling == .cls ? 1 : slice.count
        for row in slice.firstRow..<slice.firstRow + taken {
            for i in 0..<width { sum[i] += hidden[row * width + i] }
        }
        for i in 0..<width { sum[i] /= Float(taken) }
        return sum
    }

    private func activate(_ row: UnsafeMutablePointer<Float>, _ bias: VectorRef?, _ shape: EncoderConfig.Dense) {
        if let bias { kernels.pointee.add(row, bias, UInt32(shape.outputs)) }
        if shape.activation == .tanh { for i in 0..<shape.outputs { row[i] = tanh(row[i]) } }
    }

    /// The embedding with length 1 where the model wants that; nil where it is no numbers.
    private func finished(_ embedding: [Float]) -> [Float]? {
        guard embedding.withUnsafeBufferPointer({ DecoderStep.isSound($0) }) else { return nil }
        guard config.normalize else { return embedding }
        var length: Float = 0
        for value in embedding { length += value * value }
        let factor = 1 / max(length.squareRoot(), 1e-12)
        return embedding.map { $0 * factor }
    }

    /// Whether all rows are numbers.
    func isSound() -> Bool { DecoderStep.isSound(UnsafeBufferPointer(start: hidden, count: rows * config.hidden)) }
}
