import CKernels

/// What one layer's attention needs besides its queries, keys and values.
struct Attention {
    enum Pairing: UInt32 {
        /// Pairs (i, i + head_dim / 2).
        case halves = 0
        /// Pairs (2i, 2i + 1).
        case interleaved = 1
    }

    var layer: Int
    var pairing: Pairing
    /// In float throughout, as a dequantized layer wants it; else bf16 will do for many rows.
    var isExact: Bool
    /// Which of the model's RoPE bases.
    var rope = 0
    /// Tokens a row sees, itself included; 0 for all.
    var window = 0
    var queryBias: VectorRef?
    var keyBias: VectorRef?
    var valueBias: VectorRef?
    /// RMSNorm of each head before the rotation.
    var queryNorm: VectorRef?
    var keyNorm: VectorRef?
    /// Multiplied into the scores; nil for head_dim^-1/2.
    var scale: Float?
}

/// The rows of one step on their way through the layers, and the operations that families are written in. A row is a
/// token of a sequence; all rows go through a layer together.
///
/// Used by the engine thread alone.
final class Step {
    /// Rows that a step takes at most.
    static let rowLimit = 512
    /// Gated values have the widest outliers: a scale for each 16 of them (instead of 32) takes a seventh off SmolLM2's
    /// KL in memory_low, for the input of one matrix in seven.
    private static let gatedBlock = 16

    enum Input {
        /// RMSNorm of the residual stream, after what is pending has been added to it.
        case normalized(VectorRef)
        /// Rows as they are.
        case rows(UnsafeMutablePointer<Float>)
        /// activation(gate) * up.
        case gated(Activation)
    }

    enum Activation { case silu, gelu }

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

    /// What a batch's input is to the step.
    private struct Source {
        let sequence: KVSequence
        let input, firstRow, count, position: Int
    }

    let config: DecoderConfig
    private let kernels: UnsafePointer<ebb_kernels>
    private let pool: WorkerPool
    let products: MatrixProducts
    private var memory: AnonymousMemory
    private var hasHugePages = false
    private var rows = 0
    var rowCount: Int { rows }
    /// The rows that are left after the last attention; nil for all.
    private var wanted: [Int]?
    private var sources: [Source] = []
    /// What attention works on: the sources' rows, or what is left of them; one for each source.
    private let slices = UnsafeMutablePointer<Slice>.allocate(capacity: Step.rowLimit)
    /// The KV cache's regions, f16 and int8.
    private let blocks, int8Blocks: UnsafeMutablePointer<UInt8>
    private let blockBytes, int8BlockBytes: Int
    /// Added to the residual stream by the next `.normalized` input, normalized with the weight where there is one.
    private var pending: (part: UnsafeMutablePointer<Float>, bias: VectorRef?, norm: VectorRef?)?
    /// Inputs of the batch of which a row has been found that is no numbers any more.
    private var unsound: Set<Int> = []

    /// The residual stream, [rows][hidden].
    let residual: UnsafeMutablePointer<Float>
    private let normalized: UnsafeMutablePointer<Float>
    /// Queries [rows][heads * head_dim], keys and values [rows][kv_heads * head_dim].
    let q, k, v: UnsafeMutablePointer<Float>
    /// The attention's result, [rows][heads * head_dim].
    let attended: UnsafeMutablePointer<Float>
    /// [rows][feed_forward].
    let gate, up: UnsafeMutablePointer<Float>
    /// What a part of a layer adds to the residual stream, [rows][hidden].
    let part: UnsafeMutablePointer<Float>
    private let cosines, sines: UnsafeMutablePointer<Float>
    private let rotations: Rotations
    private let rowSlices, rowTokens: UnsafeMutablePointer<Int32>

    init(config: DecoderConfig, cache: KVPool, kernels: Kernels, pool: WorkerPool) throws {
        self.config = config
        self.kernels = kernels.table
        self.pool = pool
        products = MatrixProducts(kernels: kernels, pool: pool)
        blocks = cache.base.assumingMemoryBound(to: UInt8.self)
        int8Blocks = cache.int8Base.assumingMemoryBound(to: UInt8.self)
        (blockBytes, int8BlockBytes) = (cache.blockBytes, cache.int8BlockBytes)
        rotations = Rotations(config.rotaries, headDim: config.headDim)
        let rope = rotations.angles
        let widths = [
            config.hidden, config.hidden, config.queryWidth, config.keyWidth, config.keyWidth, config.queryWidth,
            config.feedForward, config.feedForward, config.hidden, rope, rope, 1, 1,
        ].map { ($0 + 15) / 16 * 16 * Self.rowLimit }
        memory = try AnonymousMemory(byteCount: widths.reduce(0, +) * 4)
        var at = memory.base.assumingMemoryBound(to: Float.self)
        func next(_ index: Int) -> UnsafeMutablePointer<Float> {
            defer { at += widths[index] }
            return at
        }
        (residual, normalized, q, k, v) = (next(0), next(1), next(2), next(3), next(4))
        (attended, gate, up, part, cosines, sines) = (next(5), next(6), next(7), next(8), next(9), next(10))
        rowSlices = UnsafeMutableRawPointer(next(11)).assumingMemoryBound(to: Int32.self)
        rowTokens = UnsafeMutableRawPointer(next(12)).assumingMemoryBound(to: Int32.self)
    }

    deinit { slices.deallocate() }

    /// The mappings of the rows and of what products read.
    var regions: [MemoryRegion] { [memory.region] + products.regions }

    /// Gives the pages of all buffers back; between two steps they hold nothing.
    func discard() {
        memory.discard()
        memory.setHugePages(false)
        hasHugePages = false
        products.discard()
    }

    /// Makes sure that products have memory for `rows` rows.
    func admit(rows: Int) throws { try products.admit(rows: rows, widest: widest, block: Self.gatedBlock) }

    private var widest: Int { max(config.hidden, config.queryWidth, config.feedForward) }

    /// Bytes of ``regions`` once a step of ``rowLimit`` rows has been run.
    var largestBytes: Int {
        memory.byteCount + ActivationBuffer.byteCount(rows: Self.rowLimit, k: widest, block: Self.gatedBlock)
    }

    // MARK: Beginning and end

    /// Takes the rows of a batch: embeds the tokens and prepares the rotations of their positions.
    /// - Parameter wanted: the rows whose logits are asked for, ascending; after the last layer's attention nobody looks
    ///   at the others any more, and they are dropped. Nil keeps all.
    func begin(_ batch: [StepInput], wanted: [Int]?, embedding: LinearRef, scale: Float) {
        self.wanted = wanted
        sources.removeAll(keepingCapacity: true)
        rows = 0
        pending = nil
        unsound = []
        for (index, input) in batch.enumerated() where !input.tokens.isEmpty {
            for (i, token) in input.tokens.enumerated() {
                rowSlices[rows + i] = Int32(sources.count)
                rowTokens[rows + i] = token
            }
            sources.append(
                Source(
                    sequence: input.sequence, input: index, firstRow: rows, count: input.tokens.count,
                    position: input.sequence.count))
            rows += input.tokens.count
        }
        // Rows lie a page or more apart, which is too many pages for the TLB where there are many rows. Few rows in huge
        // pages would take far more memory than they need.
        if rows >= AnonymousMemory.rowsForHugePages, !hasHugePages {
            memory.setHugePages(true)
            hasHugePages = true
        }
        prepareSlices(layer: 0)
        let hidden = config.hidden
        pool.run(items: rows, grain: 8) { range, _ in
            for row in range {
                let out = residual + row * hidden
                withUnsafePointer(to: embedding.pointee.table) {
                    ebb_dequantize_channel($0, UInt32(rowTokens[row]), out)
                }
                if scale != 1 { for i in 0..<hidden { out[i] *= scale } }
            }
            rotations.fill(range, cosines: cosines, sines: sines) { slices[Int(rowSlices[$0])].position(row: $0) }
        }
    }

    /// Lets go of the batch's sequences: between two steps nothing keeps them alive.
    func end() { sources.removeAll(keepingCapacity: true) }

    private func prepareSlices(layer: Int) {
        for (index, source) in sources.enumerated() {
            (slices + index).initialize(
                to: Slice(
                    firstRow: source.firstRow, count: source.count, position: source.position,
                    table: source.sequence.table(layer), ringBlocks: source.sequence.ringBlocks(layer)))
        }
    }

    /// Logits [rows][vocabulary] of some of the rows that are left, after the final norm.
    func logits(_ range: Range<Int>, norm: VectorRef, head: LinearRef, out: UnsafeMutablePointer<Float>) throws {
        settle()
        let hidden = config.hidden
        for (index, row) in range.enumerated() {
            kernels.pointee.rms_norm(
                residual + row * hidden, norm, normalized + index * hidden, UInt32(hidden), config.epsilon)
        }
        products.run(rows: range.count, (head, out)) { _ in normalized }
    }

    // MARK: Operations of families

    /// out = input W^T for up to three matrices that read the same input.
    func project(
        _ input: Input, _ a: LinearRef, to aOut: UnsafeMutablePointer<Float>, _ b: LinearRef? = nil,
        to bOut: UnsafeMutablePointer<Float>? = nil, _ c: LinearRef? = nil, to cOut: UnsafeMutablePointer<Float>? = nil
    ) {
        let k = Int(a.pointee.mapped.k)
        let source: (Range<Int>) -> UnsafeMutablePointer<Float>
        var block = 32
        switch input {
        case .normalized(let weight):
            source = { [self] range in
                for row in range {
                    settle(row)
                    kernels.pointee.rms_norm(
                        residual + row * k, weight, normalized + row * k, UInt32(k), config.epsilon)
                }
                return normalized
            }
        case .rows(let rows): source = { _ in rows }
        case .gated(let activation):
            let kernel = activation == .silu ? kernels.pointee.silu_gate : kernels.pointee.gelu_gate
            block = Self.gatedBlock
            source = { [self] range in
                kernel?(
                    gate + range.lowerBound * k, up + range.lowerBound * k, gate + range.lowerBound * k,
                    UInt32(range.count * k))
                return gate
            }
        }
        if rows > 0 { products.run(rows: rows, (a, aOut), b, bOut, c, cOut, block: block, source) }
        if case .normalized = input { pending = nil }
    }

    /// x += part, with `bias` added and normalized with `norm` first where they are given. Done together with the next
    /// norm.
    func addResidual(_ part: UnsafeMutablePointer<Float>, bias: VectorRef? = nil, norm: VectorRef? = nil) {
        settle()
        pending = (part, bias, norm)
    }

    /// Rotary embeddings, the KV cache, and softmax(q k^T * scale) v, for every row and head.
    func attend(_ attention: Attention) {
        prepareSlices(layer: attention.layer)
        let slices = UnsafeMutableBufferPointer(start: slices, count: sources.count)
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
                        self.rotateAndStore(slice.firstRow + place - lead, attention)
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
            if let source = sources.first(where: { place < $0.firstRow + $0.count }) { unsound.insert(source.input) }
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
        rows = wanted.count
    }

    /// Adds what is pending to the residual stream.
    func settle() {
        guard pending != nil else { return }
        for row in 0..<rows { settle(row) }
        pending = nil
    }

    private func settle(_ row: Int) {
        guard let pending else { return }
        let hidden = config.hidden
        let part = pending.part + row * hidden
        if let bias = pending.bias { kernels.pointee.add(part, bias, UInt32(hidden)) }
        if let norm = pending.norm { kernels.pointee.rms_norm(part, norm, part, UInt32(hidden), config.epsilon) }
        kernels.pointee.add(residual + row * hidden, part, UInt32(hidden))
    }

    private func rotateAndStore(_ row: Int, _ a: Attention) {
        let slice = slices[Int(rowSlices[row])]
        let position = slice.position(row: row)
        let half = config.headDim / 2
        let (query, key, value) = (q + row * config.queryWidth, k + row * config.keyWidth, v + row * config.keyWidth)
        if let bias = a.queryBias { kernels.pointee.add(query, bias, UInt32(config.queryWidth)) }
        if let bias = a.keyBias { kernels.pointee.add(key, bias, UInt32(config.keyWidth)) }
        if let bias = a.valueBias { kernels.pointee.add(value, bias, UInt32(config.keyWidth)) }
        if let norm = a.queryNorm { normalizeHeads(query, config.heads, norm) }
        if let norm = a.keyNorm { normalizeHeads(key, config.kvHeads, norm) }
        let at = row * rotations.angles + a.rope * half
        let pairs = a.pairing.rawValue
        let width = UInt32(config.headDim)
        kernels.pointee.rope(query, cosines + at, sines + at, UInt32(config.heads), width, pairs)
        kernels.pointee.rope(key, cosines + at, sines + at, UInt32(config.kvHeads), width, pairs)
        kernels.pointee.store_kv(
            key, value, blocks + slice.block(position: position) * blockBytes, blockBytes / 2,
            UInt32(config.kvHeads), width, UInt32(position % KVPool.tokensPerBlock))
    }

    private func normalizeHeads(_ x: UnsafeMutablePointer<Float>, _ heads: Int, _ norm: VectorRef) {
        for head in 0..<heads {
            let values = x + head * config.headDim
            kernels.pointee.rms_norm(values, norm, values, UInt32(config.headDim), config.epsilon)
        }
    }

    /// The (token, head of the group) pairs of a sequence go to the kernel in chunks of some rows.
    private func chunks(_ tokens: Int, _ group: Int, _ a: Attention) -> (count: Int, rows: Int) {
        let pairs = tokens * group
        // Below two row blocks, turning keys and values to bf16 costs more than it saves.
        let inBf16 = !a.isExact && kernels.pointee.attention_bf16 != nil && pairs > 2 * Int(EBB_ROW_BLOCK)
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
        queries.q = UnsafePointer(q + start)
        queries.out = attended + start
        queries.ld = config.queryWidth
        let kernel = chunks.rows == Int(EBB_ROW_BLOCK) ? kernels.pointee.attention : kernels.pointee.attention_bf16
        kernel?(&view, &queries)
    }
}
