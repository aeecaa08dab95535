import CKernels

/// The attention of a decoder's step over sequences with a KV cache.
///
/// Used by the engine thread alone.
final class DecoderAttention: RowAttention, StepAttention {
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

        func block(position: Int) -> Int {
            let index = position / KVPool.tokensPerBlock
            return Int(table[ringBlocks > 0 ? index % ringBlocks : index])
        }
    }

    /// The KV cache's regions, f16 and int8.
    private let blocks, int8Blocks: UnsafeMutablePointer<UInt8>
    private let blockBytes, int8BlockBytes: Int
    /// The batch's sources, or what is left of their rows; one for each source.
    private let slices = UnsafeMutablePointer<Slice>.allocate(capacity: DecoderStep.rowLimit)
    private var sequences: [KVSequence] = []

    init(
        config: DecoderConfig, cache: KVPool, kernels: Kernels, pool: WorkerPool, _ buffers: Buffers,
        in workspace: Workspace
    ) {
        blocks = cache.base.assumingMemoryBound(to: UInt8.self)
        int8Blocks = cache.int8Base.assumingMemoryBound(to: UInt8.self)
        (blockBytes, int8BlockBytes) = (cache.blockBytes, cache.int8BlockBytes)
        super.init(config: config, kernels: kernels, pool: pool, buffers, in: workspace)
    }

    deinit { slices.deallocate() }

    override func begin(_ sources: [RowSource], of sequences: [KVSequence]) {
        super.begin(sources, of: sequences)
        self.sequences = sequences
    }

    /// Lets go of the sequences.
    override func end() {
        super.end()
        sequences.removeAll(keepingCapacity: true)
    }

    private func prepareSlices(layer: Int) {
        for (index, source) in sources.enumerated() {
            (slices + index).initialize(
                to: Slice(
                    firstRow: source.firstRow, count: source.count, position: source.position,
                    table: sequences[source.input].table(layer),
                    ringBlocks: sequences[source.input].ringBlocks(layer)))
        }
    }

    /// Rotary embeddings, the KV cache, and softmax(q k^T * scale) v, for every row and head.
    func attend(_ attention: Attention) {
        prepareSlices(layer: attention.layer)
        let slices = UnsafeMutableBufferPointer(start: slices, count: sources.count)
        let turn = turn(of: attention)
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
        prepare(row, a, turn)
        let position = Int(positions[row])
        kernels.pointee.store_kv(
            k + row * config.keyWidth, v + row * config.keyWidth,
            blocks + slices[Int(rowSources[row])].block(position: position) * blockBytes, blockBytes / 2,
            UInt32(config.kvHeads), UInt32(config.headDim), UInt32(position % KVPool.tokensPerBlock))
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
