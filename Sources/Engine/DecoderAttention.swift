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

/// The attention of a decoder's step: rotary embeddings, the KV cache, and softmax(q k^T * scale) v.
///
/// Used by the engine thread alone.
final class DecoderAttention {
    /// Rows of one sequence that follow each other, and where a layer's keys and values of it lie. Plain data, so that
    /// threads count no references.
    private struct Slice {
        var firstRow: Int
        var count: Int
        var position: Int
        let table: UnsafePointer<UInt32>
        let ringBlocks: Int

        /// Rows up to the end of the KV block that the first one belongs to.
        var toEndOfBlock: Int { min(count, KVPool.tokensPerBlock - position % KVPool.tokensPerBlock) }

        /// Goes on to the next block.
        mutating func advance() {
            let done = toEndOfBlock
            firstRow += done
            position += done
            count -= done
        }

        func position(row: Int) -> Int { position + row - firstRow }

        func block(position: Int) -> Int {
            let index = position / KVPool.tokensPerBlock
            return Int(table[ringBlocks > 0 ? index % ringBlocks : index])
        }
    }

    /// Queries [rows][heads * head_dim], keys and values [rows][kv_heads * head_dim], and the result, as the queries.
    let q, k, v, attended: UnsafeMutablePointer<Float>

    private let config: DecoderConfig
    private let kernels: UnsafePointer<ebb_kernels>
    private let pool: WorkerPool
    /// The KV cache's regions, f16 and int8.
    private let blocks, int8Blocks: UnsafeMutablePointer<UInt8>
    private let blockBytes, int8BlockBytes: Int
    private let rotations: Rotations
    /// Angles of a row.
    private let angles: Int
    private let cosines, sines: UnsafeMutablePointer<Float>
    /// The batch's sources, or what is left of their rows; one for each source.
    private let slices = UnsafeMutablePointer<Slice>.allocate(capacity: DecoderStep.rowLimit)
    private(set) var sources: [RowSource] = []
    /// Which slice a row belongs to.
    private let rowSlices: UnsafeMutablePointer<Int32>

    /// Where the buffers lie in a step's workspace.
    struct Buffers {
        fileprivate let q, k, v, attended, cosines, sines, rowSlices: Workspace.Buffer
        fileprivate let rotations: Rotations

        init(_ config: DecoderConfig, _ plan: inout Workspace.Plan) {
            q = plan.buffer(config.queryWidth)
            k = plan.buffer(config.keyWidth)
            v = plan.buffer(config.keyWidth)
            attended = plan.buffer(config.queryWidth)
            rotations = Rotations(config.rotaries)
            cosines = plan.buffer(rotations.angles)
            sines = plan.buffer(rotations.angles)
            rowSlices = plan.buffer(1)
        }
    }

    init(
        config: DecoderConfig, cache: KVPool, kernels: Kernels, pool: WorkerPool, _ buffers: Buffers,
        in workspace: Workspace
    ) {
        self.config = config
        self.kernels = kernels.table
        self.pool = pool
        blocks = cache.base.assumingMemoryBound(to: UInt8.self)
        int8Blocks = cache.int8Base.assumingMemoryBound(to: UInt8.self)
        (blockBytes, int8BlockBytes) = (cache.blockBytes, cache.int8BlockBytes)
        rotations = buffers.rotations
        angles = rotations.angles
        (q, k, v) = (workspace.floats(buffers.q), workspace.floats(buffers.k), workspace.floats(buffers.v))
        attended = workspace.floats(buffers.attended)
        (cosines, sines) = (workspace.floats(buffers.cosines), workspace.floats(buffers.sines))
        rowSlices = workspace.integers(buffers.rowSlices)
    }

    deinit { slices.deallocate() }

    /// Takes the sources of a batch.
    func begin(_ sources: [RowSource]) {
        self.sources = sources
        for (index, source) in sources.enumerated() {
            for row in source.rows { rowSlices[row] = Int32(index) }
        }
        prepareSlices(layer: 0)
    }

    /// Prepares the rotations of rows.
    func turn(_ rows: Range<Int>) {
        rotations.fill(rows, cosines: cosines, sines: sines) { slices[Int(rowSlices[$0])].position(row: $0) }
    }

    /// Lets go of the sequences.
    func end() { sources.removeAll(keepingCapacity: true) }

    private func prepareSlices(layer: Int) {
        for (index, source) in sources.enumerated() {
            (slices + index).initialize(
                to: Slice(
                    firstRow: source.firstRow, count: source.count, position: source.position,
                    table: source.sequence.table(layer), ringBlocks: source.sequence.ringBlocks(layer)))
        }
    }

    /// Rotary embeddings, the KV cache, and softmax(q k^T * scale) v, for every row and head.
    func attend(_ attention: Attention) {
        prepareSlices(layer: attention.layer)
        let slices = UnsafeMutableBufferPointer(start: slices, count: sources.count)
        let turn = attention.rope.map { rotations.turn(of: $0) }
        // A ring holds the window and one block: rows enter it a block at a time, or they would overwrite what rows
        // before them still look at. Until it is full, there is nothing to overwrite.
        let isRing = slices.contains {
            $0.ringBlocks > 0 && $0.position + $0.count > $0.ringBlocks * KVPool.tokensPerBlock
        }
        let group = config.heads / config.kvHeads
        while slices.contains(where: { $0.count > 0 }) {
            var items = 0
            for slice in slices {
                let count = isRing ? slice.toEndOfBlock : slice.count
                // Whole KV blocks: the keys of a block's tokens share cache lines.
                let lead = slice.position % KVPool.tokensPerBlock
                pool.run(items: lead + count, grain: KVPool.tokensPerBlock) { range, _ in
                    for place in range where place >= lead {
                        self.rotateAndStore(slice.firstRow + place - lead, attention, turn)
                    }
                }
                items += chunks(count, group, attention).count * config.kvHeads
            }
            pool.run(items: items, grain: 1) { range, _ in
                for item in range { self.attendChunk(item, group, isRing, attention) }
            }
            if !isRing { break }
            for index in slices.indices { slices[index].advance() }
        }
    }

    private func rotateAndStore(_ row: Int, _ a: Attention, _ turn: Rotations.Turn?) {
        let slice = slices[Int(rowSlices[row])]
        let position = slice.position(row: row)
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
        kernels.pointee.store_kv(
            key, value, blocks + slice.block(position: position) * blockBytes, blockBytes / 2,
            UInt32(config.kvHeads), UInt32(config.headDim), UInt32(position % KVPool.tokensPerBlock))
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

    /// The (token, head of the group) pairs of a sequence go to the kernel in chunks of some rows.
    private func chunks(_ tokens: Int, _ group: Int, _ a: Attention) -> (count: Int, rows: Int) {
        let pairs = tokens * group
        // Below two row blocks, turning keys and values to bf16 costs more than it saves.
        let isPlain = a.softcap == 0 && a.sinks == nil
        let inBf16 =
            !a.isExact && isPlain && kernels.pointee.attention_bf16 != nil && pairs > 2 * Int(EBB_ROW_BLOCK)
        let rows = Int(inBf16 ? EBB_QUERY_ROWS : EBB_ROW_BLOCK)
        return ((pairs + rows - 1) / rows, rows)
    }

    private func attendChunk(_ item: Int, _ group: Int, _ isRing: Bool, _ a: Attention) {
        var item = item
        var index = 0
        var count = 0
        var chunks = (count: 0, rows: 0)
        while true {
            count = isRing ? slices[index].toEndOfBlock : slices[index].count
            chunks = self.chunks(count, group, a)
            if item < chunks.count * config.kvHeads { break }
            item -= chunks.count * config.kvHeads
            index += 1
        }
        let slice = slices[index]
        let head = item / chunks.count
        // Later rows see more keys: the long chunks first, so that the threads end together.
        let first = (chunks.count - 1 - item % chunks.count) * chunks.rows
        let headBytes = config.headDim * KVPool.tokensPerBlock * 2
        var view = ebb_kv_view()
        view.base = UnsafePointer(blocks)
        view.blocks = slice.table
        view.block_bytes = blockBytes
        view.key_offset = head * headBytes
        view.value_offset = blockBytes / 2 + head * headBytes
        view.head_dim = UInt32(config.headDim)
        view.ring_blocks = UInt32(slice.ringBlocks)
        view.int8_base = UnsafePointer(int8Blocks)
        view.int8_block_bytes = int8BlockBytes
        view.int8_offset = head * ebb_kv_int8_bytes(UInt32(config.headDim))
        let start = slice.firstRow * config.queryWidth + head * group * config.headDim
        var queries = ebb_queries()
        queries.rows = UInt32(min(chunks.rows, count * group - first))
        queries.first = UInt32(first)
        queries.group = UInt32(group)
        queries.position = UInt32(slice.position)
        queries.window = UInt32(a.window)
        queries.scale = a.scale ?? 1 / Float(config.headDim).squareRoot()
        queries.softcap = a.softcap
        queries.sinks = a.sinks.map { $0 + head * group }
        queries.q = UnsafePointer(q + start)
        queries.out = attended + start
        queries.ld = config.queryWidth
        let kernel = chunks.rows == Int(EBB_ROW_BLOCK) ? kernels.pointee.attention : kernels.pointee.attention_bf16
        kernel?(&view, &queries)
    }
}
