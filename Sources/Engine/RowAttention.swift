import CKernels

/// What one layer's attention needs besides its queries, keys and values.
struct Attention {
    enum Pairing: UInt32 {
        /// Pairs (i, i + head_dim / 2).
        case halves = 0
        /// Pairs (2i, 2i + 1).
        case interleaved = 1
    }

    let layer: Int
    let pairing: Pairing
    /// In float throughout, as a dequantized layer wants it; else bf16 will do for many rows.
    let isExact: Bool
    /// Which of the model's rotary embeddings; nil where positions do not turn.
    let rope: Int?
    /// Tokens a row sees, itself included; 0 for all.
    let window: Int
    let queryBias: VectorRef?
    let keyBias: VectorRef?
    let valueBias: VectorRef?
    /// RMSNorm before the rotation, of each head, or of all heads together.
    let queryNorm: VectorRef?
    let keyNorm: VectorRef?
    let normalizesHeadsTogether: Bool
    /// Multiplied into the scores; nil for head_dim^-1/2.
    let scale: Float?
    /// Scores s become softcap * tanh(s / softcap) (Gemma Team 2024); 0 for none.
    let softcap: Float
    /// A score for each head that takes part in its softmax with no value (Xiao et al. 2024), [heads].
    let sinks: VectorRef?

    init(
        _ layer: Int, _ weights: AttentionWeights, _ pairing: Pairing, rope: Int? = 0, window: Int = 0,
        scale: Float? = nil, softcap: Float = 0, sinks: VectorRef? = nil
    ) {
        (self.layer, self.pairing, isExact) = (layer, pairing, weights.isExact)
        (queryBias, keyBias, valueBias) = (weights.queryBias, weights.keyBias, weights.valueBias)
        (queryNorm, keyNorm) = (weights.queryNorm, weights.keyNorm)
        normalizesHeadsTogether = weights.headNorms == .together
        (self.rope, self.window, self.scale, self.softcap, self.sinks) = (rope, window, scale, softcap, sinks)
    }
}

/// The attention of a decoder's rows up to what they look at: biases, norms of heads, rotary embeddings.
/// ``DecoderAttention`` looks at a KV cache, ``TextAttention`` at whole texts.
///
/// Used by one thread at a time.
class RowAttention {
    /// Queries [rows][heads * head_dim], keys and values [rows][kv_heads * head_dim], and the result, as the queries.
    let q, k, v, attended: UnsafeMutablePointer<Float>

    let config: DecoderConfig
    let kernels: UnsafePointer<ebb_kernels>
    let pool: WorkerPool
    private let rotations: Rotations
    /// Angles of a row.
    private let angles: Int
    private let cosines, sines: UnsafeMutablePointer<Float>
    /// What a step's rows belong to.
    private(set) var sources: [RowSource] = []
    /// Which source a row belongs to, and its position in that.
    let rowSources, positions: UnsafeMutablePointer<Int32>

    /// Where the buffers lie in a step's workspace.
    struct Buffers {
        fileprivate let q, k, v, attended, cosines, sines, rowSources, positions: Workspace.Buffer
        fileprivate let rotations: Rotations

        init(_ config: DecoderConfig, _ plan: inout Workspace.Plan) {
            q = plan.buffer(config.queryWidth)
            k = plan.buffer(config.keyWidth)
            v = plan.buffer(config.keyWidth)
            attended = plan.buffer(config.queryWidth)
            rotations = Rotations(config.rotaries)
            cosines = plan.buffer(rotations.angles)
            sines = plan.buffer(rotations.angles)
            rowSources = plan.buffer(1)
            positions = plan.buffer(1)
        }
    }

    init(config: DecoderConfig, kernels: Kernels, pool: WorkerPool, _ buffers: Buffers, in workspace: Workspace) {
        (self.config, self.kernels, self.pool) = (config, kernels.table, pool)
        rotations = buffers.rotations
        angles = rotations.angles
        (q, k, v) = (workspace.floats(buffers.q), workspace.floats(buffers.k), workspace.floats(buffers.v))
        attended = workspace.floats(buffers.attended)
        (cosines, sines) = (workspace.floats(buffers.cosines), workspace.floats(buffers.sines))
        (rowSources, positions) = (workspace.integers(buffers.rowSources), workspace.integers(buffers.positions))
    }

    /// Takes the sources of a batch.
    /// - Parameter sequences: the batch's; none where rows are whole texts.
    func begin(_ sources: [RowSource], of sequences: [KVSequence]) {
        self.sources = sources
        for (index, source) in sources.enumerated() {
            for row in source.rows {
                rowSources[row] = Int32(index)
                positions[row] = Int32(source.position + row - source.firstRow)
            }
        }
    }

    /// Lets go of the batch.
    func end() { sources.removeAll(keepingCapacity: true) }

    /// Prepares the rotations of rows.
    final func turn(_ rows: Range<Int>) {
        rotations.fill(rows, cosines: cosines, sines: sines) { Int(positions[$0]) }
    }

    /// How an attention's rows turn; nil where they do not.
    final func turn(of attention: Attention) -> Rotations.Turn? { attention.rope.map { rotations.turn(of: $0) } }

    /// Adds biases to a row's query, key and value, and normalizes and turns its heads.
    final func prepare(_ row: Int, _ a: Attention, _ turn: Rotations.Turn?) {
        let (query, key, value) = (q + row * config.queryWidth, k + row * config.keyWidth, v + row * config.keyWidth)
        if let bias = a.queryBias { kernels.pointee.add(query, bias, UInt32(config.queryWidth)) }
        if let bias = a.keyBias { kernels.pointee.add(key, bias, UInt32(config.keyWidth)) }
        if let bias = a.valueBias { kernels.pointee.add(value, bias, UInt32(config.keyWidth)) }
        let heads = a.normalizesHeadsTogether ? 1 : config.heads
        if let norm = a.queryNorm { normalize(query, norm, heads, config.queryWidth / heads) }
        let kvHeads = a.normalizesHeadsTogether ? 1 : config.kvHeads
        if let norm = a.keyNorm { normalize(key, norm, kvHeads, config.keyWidth / kvHeads) }
        if let turn {
            rotate(query, config.heads, row, turn, a.pairing)
            rotate(key, config.kvHeads, row, turn, a.pairing)
        }
    }

    /// RMSNorm of `count` pieces of a row.
    private func normalize(_ x: UnsafeMutablePointer<Float>, _ norm: VectorRef, _ count: Int, _ width: Int) {
        for piece in 0..<count {
            let values = x + piece * width
            kernels.pointee.rms_norm(values, norm, values, UInt32(width), config.epsilon)
        }
    }

    private func rotate(
        _ x: UnsafeMutablePointer<Float>, _ heads: Int, _ row: Int, _ turn: Rotations.Turn, _ pairing: Attention.Pairing
    ) {
        let at = row * angles + turn.firstAngle
        let (cosine, sine, width) = (cosines + at, sines + at, UInt32(turn.dimensions))
        if turn.dimensions == config.headDim {
            return kernels.pointee.rope(x, cosine, sine, UInt32(heads), width, pairing.rawValue)
        }
        // The rest of each head stays as it is.
        for head in 0..<heads {
            kernels.pointee.rope(x + head * config.headDim, cosine, sine, 1, width, pairing.rawValue)
        }
    }
}

/// What a decoder's step has its rows look at.
protocol StepAttention: RowAttention {
    /// Rotary embeddings, and softmax(q k^T * scale) v over what each row sees, for every row and head.
    func attend(_ attention: Attention)
}
