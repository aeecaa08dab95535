import CKernels

/// What a batch's input is to a step: rows of one sequence or text that follow each other.
struct RowSource {
    /// Its number in the batch.
    let input: Int
    let firstRow: Int
    let count: Int
    /// Of the first row.
    let position: Int

    var rows: Range<Int> { firstRow..<firstRow + count }
}

/// The rows of one step on their way through the layers, and the operations that families are written in. A row is a
/// token of a sequence; all rows go through a layer together.
///
/// Used by the engine thread alone.
final class DecoderStep {
    /// Rows that a step takes at most.
    static let rowLimit = 512
    /// Gated values have the widest outliers: a scale for each 16 of them (instead of 32) takes a seventh off SmolLM2's
    /// KL in memory_low, for the input of one matrix in seven.
    static let gatedBlock = 16

    enum Input {
        /// RMSNorm of the residual stream, after what is pending has been added to it.
        case normalized(VectorRef)
        /// The residual stream itself, after the same.
        case residual
        /// Rows as they are.
        case rows(UnsafeMutablePointer<Float>)
        /// activation(gate) * up.
        case gated(Activation)
    }

    enum Activation {
        case silu, gelu
        /// SiLU of 1.702 g, both factors bounded (gpt-oss).
        case clamped
    }

    let config: DecoderConfig
    let kernels: UnsafePointer<ebb_kernels>
    let pool: WorkerPool
    let products: MatrixProducts
    private let attention: any StepAttention
    let experts: ExpertRouter?
    private let adapters: AdapterProducts
    private var workspace: Workspace
    private var rows = 0
    var rowCount: Int { rows }
    /// The rows that are left after the last attention; nil for all.
    private var wanted: [Int]?
    /// Added to the residual stream, times `scale`, by the next `.normalized` or `.residual` input; normalized with the
    /// weight first where there is one.
    private var pending: Pending?
    private struct Pending {
        let part: UnsafeMutablePointer<Float>
        let bias, norm: VectorRef?
        let scale: Float
    }
    /// Inputs of the batch of which a row has been found that is no numbers any more.
    private var unsound: Set<Int> = []

    /// The residual stream, [rows][hidden].
    let residual: UnsafeMutablePointer<Float>
    let normalized: UnsafeMutablePointer<Float>
    /// Queries [rows][heads * head_dim], keys and values [rows][kv_heads * head_dim], and the attention's result.
    var q: UnsafeMutablePointer<Float> { attention.q }
    var k: UnsafeMutablePointer<Float> { attention.k }
    var v: UnsafeMutablePointer<Float> { attention.v }
    var attended: UnsafeMutablePointer<Float> { attention.attended }
    /// [rows][feed_forward].
    let gate, up: UnsafeMutablePointer<Float>
    /// What a part of a layer adds to the residual stream, [rows][hidden].
    let part: UnsafeMutablePointer<Float>
    private let rowTokens: UnsafeMutablePointer<Int32>

    /// - Parameters:
    ///   - capacity: rows that there are buffers for.
    ///   - isSteady: a row has the same products, bit by bit, alone and with others.
    ///   - gathers: whether weights read their input in orders of their own.
    ///   - attention: makes what rows look at.
    init(
        config: DecoderConfig, kernels: Kernels, pool: WorkerPool, capacity: Int = rowLimit, isSteady: Bool = false,
        gathers: Bool, attention makeAttention: (RowAttention.Buffers, Workspace) throws -> any StepAttention
    ) throws {
        self.config = config
        self.kernels = kernels.table
        self.pool = pool
        products = MatrixProducts(kernels: kernels, pool: pool, isSteady: isSteady, gathers: gathers)
        var plan = Workspace.Plan(rows: capacity)
        let (residual, normalized) = (plan.buffer(config.hidden), plan.buffer(config.hidden))
        let attention = RowAttention.Buffers(config, &plan)
        let (gate, up) = (plan.buffer(config.feedForward), plan.buffer(config.feedForward))
        let part = plan.buffer(config.hidden)
        let rowTokens = plan.buffer(1)
        let experts = config.experts.map {
            ExpertRouter.Buffers(
                $0, layers: config.layers, hidden: config.hidden, feedForward: config.feedForward, &plan)
        }
        workspace = try Workspace(plan)
        self.attention = try makeAttention(attention, workspace)
        adapters = AdapterProducts(products, kernels: kernels, pool: pool, config: config)
        self.experts = experts.map { [workspace] in ExpertRouter($0, in: workspace) }
        (self.residual, self.normalized) = (workspace.floats(residual), workspace.floats(normalized))
        (self.gate, self.up) = (workspace.floats(gate), workspace.floats(up))
        self.part = workspace.floats(part)
        self.rowTokens = workspace.integers(rowTokens)
    }

    /// The mappings of the rows and of what products read.
    var regions: [MemoryRegion] { [workspace.region] + adapters.regions + products.regions }

    /// Gives the pages of all buffers back; between two steps they hold nothing.
    func discard() {
        workspace.discard()
        workspace.keepSmallPages()
        adapters.discard()
        products.discard()
    }

    /// Makes sure that products have memory for `rows` rows.
    /// - Parameters:
    ///   - batch: what has adapters.
    ///   - width: of inputs of products that are not the layers'.
    func admit(rows: Int, _ batch: [StepInput] = [], orWidth width: Int = 0) throws {
        try adapters.admit(batch)
        try products.admit(rows: productRows(rows), widest: max(widest, width), block: Self.gatedBlock)
    }

    /// Rows that a product of a step has at most: with experts, a row is there once for each that it goes through.
    private func productRows(_ rows: Int) -> Int { experts?.places(rows: rows) ?? rows }

    /// The most values of a row that products read.
    private var widest: Int { max(config.hidden, config.queryWidth, config.feedForward, adapters.rank) }

    /// Bytes of ``regions`` once a step of so many rows has been run; those of adapters from the first step with one on.
    func bytes(rows: Int) -> Int {
        workspace.byteCount + adapters.byteCount
            + products.byteCount(rows: productRows(rows), widest: widest, block: Self.gatedBlock)
    }

    // MARK: Beginning and end

    /// Takes the rows of a batch: embeds the tokens and prepares the rotations of their positions.
    /// - Parameter wanted: the rows whose logits are asked for, ascending; after the last layer's attention nobody looks
    ///   at the others any more, and they are dropped. Nil keeps all.
    func begin(_ batch: [StepInput], wanted: [Int]?, embedding: LinearRef, scale: Float) {
        begin(
            batch.lazy.map { ($0.tokens, $0.sequence.count) }, of: batch.map(\.sequence), wanted: wanted,
            embedding: embedding, scale: scale)
        var first = 0
        for input in batch {
            adapters.add(input.adapters, rows: first..<first + input.tokens.count)
            first += input.tokens.count
        }
    }

    /// Takes the rows of whole texts.
    func begin(_ texts: ArraySlice<EncoderText>, embedding: LinearRef, scale: Float) {
        begin(texts.lazy.map { ($0.tokens[...], 0) }, of: [], wanted: nil, embedding: embedding, scale: scale)
    }

    /// - Parameter inputs: tokens, and the position of the first of them.
    private func begin(
        _ inputs: some Sequence<(ArraySlice<Int32>, Int)>, of sequences: [KVSequence], wanted: [Int]?,
        embedding: LinearRef, scale: Float
    ) {
        self.wanted = wanted
        var sources: [RowSource] = []
        rows = 0
        pending = nil
        unsound = []
        adapters.clear()
        for (index, (tokens, position)) in inputs.enumerated() where !tokens.isEmpty {
            for (i, token) in tokens.enumerated() { rowTokens[rows + i] = token }
            sources.append(RowSource(input: index, firstRow: rows, count: tokens.count, position: position))
            rows += tokens.count
        }
        workspace.prepare(rows: rows)
        attention.begin(sources, of: sequences)
        let hidden = config.hidden
        pool.run(items: rows, grain: 8) { range, _ in
            for row in range {
                let out = residual + row * hidden
                withUnsafePointer(to: embedding.pointee.table) {
                    ebb_dequantize_channel($0, UInt32(rowTokens[row]), out)
                }
                if scale != 1 { for i in 0..<hidden { out[i] *= scale } }
            }
            attention.turn(range)
        }
    }

    /// Lets go of the batch's sequences: between two steps nothing keeps them alive.
    func end() {
        attention.end()
        adapters.clear()
    }

    /// Brings some of the rows that are left to their last form, RMSNorm with a weight, [range.count][hidden].
    func finish(_ range: Range<Int>, _ norm: VectorRef, to out: UnsafeMutablePointer<Float>) {
        settle()
        let hidden = config.hidden
        for (index, row) in range.enumerated() {
            kernels.pointee.rms_norm(
                residual + row * hidden, norm, out + index * hidden, UInt32(hidden), config.epsilon)
        }
    }

    /// Logits [rows][vocabulary] of some of the rows that are left, after the final norm.
    func logits(_ range: Range<Int>, of family: any DecoderFamily, out: UnsafeMutablePointer<Float>) throws {
        finish(range, family.outer.outputNorm, to: normalized)
        products.run(rows: range.count, family.outer.head.to(out)) { _ in normalized }
        adapters.add(to: family.outer.head.to(out), nil, nil, normalized, k: config.hidden, rows: range)
        let (scale, softcap) = (family.logitScale, family.logitSoftcap)
        guard scale != 1 || softcap != 0 else { return }
        for row in 0..<range.count {
            let values = out + row * config.vocabulary
            if scale != 1 { for i in 0..<config.vocabulary { values[i] *= scale } }
            if softcap != 0 { kernels.pointee.soft_cap(values, softcap, UInt32(config.vocabulary)) }
        }
    }

    // MARK: Operations of families

    /// out = input W^T for up to three matrices that read the same input.
    func project(_ input: Input, _ a: Projection, _ b: Projection? = nil, _ c: Projection? = nil) {
        let k = Int(a.weight.pointee.mapped.k)
        let block = if case .gated = input { Self.gatedBlock } else { 32 }
        let source = source(input, k)
        if rows > 0 { products.run(rows: rows, a, b, c, block: block, source) }
        // The input has been computed by now.
        if !adapters.isIdle { adapters.add(to: a, b, c, source(0..<0), k: k, rows: 0..<rows) }
        switch input {
        case .normalized, .residual: pending = nil
        case .rows, .gated: break
        }
    }

    /// What computes rows of an input of `k` values, and says where row 0 lies.
    private func source(_ input: Input, _ k: Int) -> (Range<Int>) -> UnsafeMutablePointer<Float> {
        switch input {
        case .normalized(let weight):
            return { [self] range in
                for row in range {
                    settle(row)
                    kernels.pointee.rms_norm(
                        residual + row * k, weight, normalized + row * k, UInt32(k), config.epsilon)
                }
                return normalized
            }
        case .residual:
            return { [self] range in
                for row in range { settle(row) }
                return residual
            }
        case .rows(let rows): return { _ in rows }
        case .gated(let activation):
            return { [self] range in
                activate(activation, range, k)
                return gate
            }
        }
    }

    /// gate = activation(gate) * up, for rows of `k` values.
    func activate(_ activation: Activation, _ range: Range<Int>, _ k: Int) {
        let kernel =
            switch activation {
            case .silu: kernels.pointee.silu_gate
            case .gelu: kernels.pointee.gelu_gate
            case .clamped: kernels.pointee.clamped_gate
            }
        let at = range.lowerBound * k
        kernel?(gate + at, up + at, gate + at, UInt32(range.count * k))
    }

    /// x += scale * part, with `bias` added to the part and normalized with `norm` first where they are given. Done together
    /// with the next norm.
    func addResidual(
        _ part: UnsafeMutablePointer<Float>, bias: VectorRef? = nil, norm: VectorRef? = nil, scale: Float = 1
    ) {
        settle()
        pending = Pending(part: part, bias: bias, norm: norm, scale: scale)
    }

    /// Rotary embeddings, and softmax(q k^T * scale) v over what each row sees, for every row and head. After the last
    /// layer's, rows whose logits nobody asks for are dropped.
    func attend(_ attention: Attention) {
        self.attention.attend(attention)
        if attention.layer == config.layers - 1 { keepWanted() }
    }

    // MARK: Soundness

    /// The inputs of the batch of which a row holds NaN, infinity, or values beyond any sense. A row that was dropped has
    /// been looked at before.
    func unsoundInputs() -> Set<Int> {
        findUnsound(wanted.map { $0.count == rows ? $0 : Array(0..<rows) } ?? Array(0..<rows))
        return unsound
    }

    /// Values of this size have squares whose sum is infinite, which a norm turns into zeros.
    private static let soundBits = Float(0x1p55).bitPattern

    /// - Parameter places: where in the batch each row that is left stood.
    private func findUnsound(_ places: [Int]) {
        settle()
        for (row, place) in places.enumerated() {
            let values = UnsafeBufferPointer(start: residual + row * config.hidden, count: config.hidden)
            guard !Self.isSound(values) else { continue }
            if let source = attention.sources.first(where: { place < $0.firstRow + $0.count }) {
                unsound.insert(source.input)
            }
        }
    }

    /// Whether values are numbers that can be computed with.
    static func isSound(_ values: UnsafeBufferPointer<Float>) -> Bool {
        // As integers, which are compared sixteen at a time; infinity and NaN are the largest.
        var largest: UInt32 = 0
        for value in values { largest = max(largest, value.bitPattern & 0x7fff_ffff) }
        return largest < soundBits
    }

    /// The rows that are left, to be put back by ``restore(_:)``.
    func snapshot() -> [Float] {
        settle()
        return Array(UnsafeBufferPointer(start: residual, count: rows * config.hidden))
    }

    func restore(_ snapshot: [Float]) {
        pending = nil
        rows = snapshot.count / config.hidden
        snapshot.withUnsafeBufferPointer {
            if let base = $0.baseAddress { residual.update(from: base, count: $0.count) }
        }
    }

    // MARK: How they are done

    /// Moves the rows whose logits are asked for to the front, and forgets the others.
    private func keepWanted() {
        guard let wanted, wanted.count < rows else { return }
        findUnsound(Array(0..<rows))
        for (to, from) in wanted.enumerated() where to != from {
            (residual + to * config.hidden).update(from: residual + from * config.hidden, count: config.hidden)
            (attended + to * config.queryWidth).update(
                from: attended + from * config.queryWidth, count: config.queryWidth)
        }
        adapters.keep(wanted)
        rows = wanted.count
    }

    /// Adds what is pending to the residual stream.
    func settle() {
        guard pending != nil else { return }
        for row in 0..<rows { settle(row) }
        pending = nil
    }

    /// Adds what is pending to one row.
    func settle(_ row: Int) {
        guard let pending else { return }
        let hidden = config.hidden
        let part = pending.part + row * hidden
        if let bias = pending.bias { kernels.pointee.add(part, bias, UInt32(hidden)) }
        if let norm = pending.norm { kernels.pointee.rms_norm(part, norm, part, UInt32(hidden), config.epsilon) }
        if pending.scale == 1 {
            kernels.pointee.add(residual + row * hidden, part, UInt32(hidden))
        } else {
            kernels.pointee.axpy(residual + row * hidden, part, pending.scale, UInt32(hidden))
        }
    }
}
