import CKernels
import Glibc

/// The rows of one step of an encoder, and the operations that families are written in.
///
/// Used by one thread at a time.
final class EncoderStep: TextRows, TextStep {
    private let family: any EncoderFamily
    /// Rows that there are buffers for.
    private let rowCapacity: Int
    private let workspace: Workspace
    private let attention: EncoderAttention
    private let tables: EncoderTables
    /// Each row's place in its text; empty where nothing turns by it.
    private var places: [Int] = []

    /// [rows][hidden] each; queries, keys and values of one matrix lie from q on, [rows][3 * hidden].
    let q, k, v, attended, part: UnsafeMutablePointer<Float>
    /// [rows][feed_forward]; [rows][2 * feed_forward] where the gate comes out of the same matrix.
    let wide: UnsafeMutablePointer<Float>
    /// [rows][feed_forward] for a gate, or for what it has been multiplied with.
    let gate: UnsafeMutablePointer<Float>

    init(family: any EncoderFamily, kernels: Kernels, pool: WorkerPool, gathers: Bool) throws {
        let config = family.config
        self.family = family
        rowCapacity = Self.capacity(config)
        attention = try EncoderAttention(
            width: config.hidden, headDim: config.headDim, longest: config.contextLength, kernels: kernels,
            threads: pool.threads)
        tables = try EncoderTables(family)
        var plan = Workspace.Plan(rows: rowCapacity)
        // A fused matrix writes over queries, keys and values, so they follow each other.
        let hidden = plan.buffer(config.hidden)
        let (q, k, v) = (plan.buffer(config.hidden), plan.buffer(config.hidden), plan.buffer(config.hidden))
        let (attended, part) = (plan.buffer(config.hidden), plan.buffer(config.hidden))
        let wide = plan.buffer(config.gate == .fused ? 2 * config.feedForward : config.feedForward)
        let gate = config.gate == .none ? wide : plan.buffer(config.feedForward)
        workspace = try Workspace(plan)
        (self.q, self.k, self.v) = (workspace.floats(q), workspace.floats(k), workspace.floats(v))
        (self.attended, self.part) = (workspace.floats(attended), workspace.floats(part))
        (self.wide, self.gate) = (workspace.floats(wide), workspace.floats(gate))
        // A text has the same embedding alone and with others.
        try super.init(
            family, MatrixProducts(kernels: kernels, pool: pool, isSteady: true, gathers: gathers),
            hidden: workspace.floats(hidden), kernels: kernels, pool: pool)
    }

    var regions: [MemoryRegion] {
        [workspace.region, attention.region, tables.region] + products.regions + (embeddings.map { [$0.region] } ?? [])
    }

    func discard() {
        workspace.discard()
        embeddings?.discard()
        attention.discard()
        products.discard()
    }

    private var widest: Int { max(config.hidden, config.feedForward, embeddingWidth) }

    func admit(rows: Int) throws { try products.admit(rows: rows, widest: widest, block: 32) }

    func bytes(rows: Int) -> Int {
        workspace.byteCount + attention.region.byteCount + tables.region.byteCount
            + products.byteCount(rows: rows, widest: max(config.hidden, config.feedForward), block: 32)
    }

    override func begin(_ batch: ArraySlice<EncoderText>) {
        super.begin(batch)
        places.removeAll(keepingCapacity: true)
        guard !config.rotaries.isEmpty else { return }
        for text in batch { places.append(contentsOf: text.tokens.indices) }
    }

    func embed() { family.embed(self) }
    func run(_ layer: Int) { family.run(layer, self) }
    func finish() { family.finish(self) }

    // MARK: Operations of families

    /// hidden = LayerNorm(token + position + type), as far as there are such embeddings.
    func embed(_ tokens: LinearRef, positions: LinearRef?, types: LinearRef?, _ norm: LayerNorm) {
        let width = config.hidden
        // The last rows of a buffer that is not in use yet.
        let typeRows = [1, 2].map { part + (rowCapacity - $0) * width }
        if let types {
            for (type, row) in typeRows.enumerated() { lookUp(types, min(type, types.pointee.outputs - 1), row) }
        }
        pool.run(items: slices.count, grain: 1) { range, _ in
            for index in range {
                let text = texts[texts.startIndex + index]
                for (position, token) in text.tokens.enumerated() {
                    let row = slices[index].firstRow + position
                    let (out, more) = (hidden + row * width, q + row * width)
                    lookUp(tokens, Int(token), out)
                    if let positions {
                        lookUp(positions, position, more)
                        kernels.pointee.add(out, more, UInt32(width))
                    }
                    if types != nil {
                        kernels.pointee.add(out, typeRows[position < text.second ? 0 : 1], UInt32(width))
                    }
                    normalize(out, norm, to: out)
                }
            }
        }
    }

    private func lookUp(_ table: LinearRef, _ row: Int, _ out: UnsafeMutablePointer<Float>) {
        withUnsafePointer(to: table.pointee.table) { ebb_dequantize_channel($0, UInt32(row), out) }
    }

    private func normalize(
        _ row: UnsafePointer<Float>, _ norm: LayerNorm, to out: UnsafeMutablePointer<Float>
    ) {
        kernels.pointee.layer_norm(
            row, norm.weight, norm.bias ?? tables.zeros, out, UInt32(config.hidden), config.epsilon)
    }

    /// out = input W^T, without the biases, for up to three weights that read the same input.
    func project(
        _ input: UnsafeMutablePointer<Float>, _ a: BiasedLinear, to aOut: UnsafeMutablePointer<Float>,
        _ b: BiasedLinear? = nil, to bOut: UnsafeMutablePointer<Float>? = nil, _ c: BiasedLinear? = nil,
        to cOut: UnsafeMutablePointer<Float>? = nil
    ) {
        let (b, c) = (b.flatMap { b in bOut.map(b.weight.to) }, c.flatMap { c in cOut.map(c.weight.to) })
        products.run(rows: rows, a.weight.to(aOut), b, c) { _ in input }
    }

    /// out = LayerNorm(input) W^T; W reads the input itself where there is no norm. Changes `part`.
    func project(
        _ input: UnsafeMutablePointer<Float>, normalized norm: LayerNorm?, _ a: BiasedLinear,
        to out: UnsafeMutablePointer<Float>
    ) {
        guard let norm else { return project(input, a, to: out) }
        let width = config.hidden
        products.run(rows: rows, a.weight.to(out)) { range in
            for row in range { normalize(input + row * width, norm, to: part + row * width) }
            return part
        }
    }

    /// out = gelu(input + bias) W^T; changes the input.
    func projectActivated(
        _ input: UnsafeMutablePointer<Float>, bias: VectorRef?, _ a: BiasedLinear,
        to out: UnsafeMutablePointer<Float>
    ) {
        let width = config.feedForward
        let bias = bias ?? tables.zeros
        products.run(rows: rows, a.weight.to(out)) { range in
            for row in range { kernels.pointee.gelu(input + row * width, bias, UInt32(width)) }
            return input
        }
    }

    enum GateActivation: String {
        /// With the exact error function.
        case gelu
        case silu
    }

    /// out = (activation(a) * b) W^T (Shazeer 2020), where a is `gate` and b is `wide`, or both lie in `wide`, a before b.
    func projectGated(_ activation: GateActivation, _ w: BiasedLinear, to out: UnsafeMutablePointer<Float>) {
        let width = config.feedForward
        let isFused = config.gate == .fused
        products.run(rows: rows, w.weight.to(out)) { range in
            for row in range {
                let product = gate + row * width
                let activated = isFused ? wide + row * 2 * width : product
                let factor = isFused ? activated + width : wide + row * width
                if activation == .silu {
                    kernels.pointee.silu_gate(activated, factor, product, UInt32(width))
                } else {
                    kernels.pointee.gelu(activated, tables.zeros, UInt32(width))
                    for i in 0..<width { product[i] = activated[i] * factor[i] }
                }
            }
            return gate
        }
    }

    /// hidden = LayerNorm(hidden + part + bias).
    func addAndNormalize(_ part: UnsafeMutablePointer<Float>, _ bias: VectorRef?, _ norm: LayerNorm) {
        let width = config.hidden
        pool.run(items: rows, grain: 16) { range, _ in
            for row in range {
                let out = hidden + row * width
                kernels.pointee.add(out, part + row * width, UInt32(width))
                if let bias { kernels.pointee.add(out, bias, UInt32(width)) }
                normalize(out, norm, to: out)
            }
        }
    }

    /// hidden = hidden + part.
    func add(_ part: UnsafeMutablePointer<Float>) {
        let width = config.hidden
        pool.run(items: rows, grain: 16) { range, _ in
            for row in range { kernels.pointee.add(hidden + row * width, part + row * width, UInt32(width)) }
        }
    }

    /// hidden = LayerNorm(hidden).
    func normalize(_ norm: LayerNorm) {
        let width = config.hidden
        pool.run(items: rows, grain: 16) { range, _ in
            for row in range { normalize(hidden + row * width, norm, to: hidden + row * width) }
        }
    }

    // MARK: Attention

    /// softmax((q + b_q) (k + b_k)^T / sqrt(head_dim) + relative bias) (v + b_v) over each text.
    func attend(_ layer: Int, _ w: EncoderAttentionWeights) {
        let width = config.hidden
        let scale = 1 / Float(config.headDim).squareRoot()
        pool.run(items: rows, grain: 16) { range, _ in
            for row in range {
                let query = q + row * width
                if let bias = w.query.bias { kernels.pointee.add(query, bias, UInt32(width)) }
                for i in 0..<width { query[i] *= scale }
                if let bias = w.key.bias { kernels.pointee.add(k + row * width, bias, UInt32(width)) }
                if let bias = w.value.bias { kernels.pointee.add(v + row * width, bias, UInt32(width)) }
            }
        }
        attend(layer, k: k, v: v, stride: width, isExact: w.isExact, scales: w.scales)
    }

    /// softmax(R q (R k)^T / sqrt(head_dim)) v over each text or a window in it, R the rotation by rotary embedding
    /// `rotary` of the configuration; queries, keys and values of one matrix.
    func attend(_ layer: Int, _ w: FusedAttentionWeights, rotary: Int) {
        let (width, stride) = (config.hidden, 3 * config.hidden)
        let scale = 1 / Float(config.headDim).squareRoot()
        pool.run(items: rows, grain: 16) { range, _ in
            for row in range {
                let query = q + row * stride
                let (cosines, sines) = tables.angles(rotary, at: places[row])
                // Queries, and the keys that follow them.
                kernels.pointee.rope(query, cosines, sines, UInt32(2 * config.heads), UInt32(config.headDim), 0)
                for i in 0..<width { query[i] *= scale }
            }
        }
        attend(layer, k: q + width, v: q + 2 * width, stride: stride, isExact: w.isExact, scales: w.scales)
    }

    private func attend(
        _ layer: Int, k: UnsafeMutablePointer<Float>, v: UnsafeMutablePointer<Float>, stride: Int, isExact: Bool,
        scales: VectorRef?
    ) {
        products.probe?.attention(layer: layer, query: q, key: k, value: v, count: rows, stride: stride)
        let fixed = isExact ? nil : scales
        let heads = config.heads
        let window = config.windows.isEmpty ? 0 : config.windows[layer]
        let reach = window == 0 ? EncoderAttention.Reach.all : .init(before: window, after: window)
        pool.run(items: slices.count * heads, grain: 1) { range, thread in
            for item in range {
                let slice = slices[item / heads]
                let column = item % heads * config.headDim
                let start = slice.firstRow * stride + column
                let view = EncoderAttention.Head(
                    query: q + start, key: k + start, value: v + start, queryStride: stride,
                    keyStride: stride, out: attended + slice.firstRow * config.hidden + column, tokens: slice.count,
                    reach: reach, bias: tables.relativeBias(head: item % heads))
                if let fixed {
                    attention.runFixed(view, scales: fixed, thread: thread)
                } else {
                    attention.run(view, inBf16: !isExact, thread: thread, scratch: pool.scratch(thread))
                }
            }
        }
    }
}
