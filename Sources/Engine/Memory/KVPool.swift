import CKernels

/// The KV cache of a model: blocks of 32 tokens of one layer, f16, handed out from one reserved region.
/// A block holds keys [kv_heads][head_dim][32], then values [kv_heads][32][head_dim].
///
/// Used by the engine thread alone.
public final class KVPool {
    public static let tokensPerBlock = Int(EBB_KV_BLOCK)

    let kvHeads: Int
    let headDim: Int
    let blockBytes: Int
    private let memory: AnonymousMemory
    private let capacity: Int
    private var free: [UInt32] = []
    private var references: [UInt16] = []

    /// - Parameter capacity: blocks, of all layers and sequences together.
    init(kvHeads: Int, headDim: Int, capacity: Int) throws {
        self.kvHeads = kvHeads
        self.headDim = headDim
        self.capacity = capacity
        blockBytes = 2 * kvHeads * headDim * Self.tokensPerBlock * 2
        memory = try AnonymousMemory(byteCount: capacity * blockBytes)
    }

    var base: UnsafeMutableRawPointer { memory.base }
    /// Byte offset of the values in a block.
    var valuesOffset: Int { blockBytes / 2 }
    /// Blocks in use.
    public var usedBlocks: Int { references.count - free.count }
    /// Bytes of the blocks in use.
    public var usedBytes: Int { usedBlocks * blockBytes }
    /// Blocks that can still be handed out.
    var availableBlocks: Int { capacity - usedBlocks }

    /// A block, or nil where the pool is exhausted.
    func allocate() -> UInt32? {
        if let block = free.popLast() {
            references[Int(block)] = 1
            return block
        }
        guard references.count < capacity else { return nil }
        references.append(1)
        return UInt32(references.count - 1)
    }

    /// Shares a block (a common prefix).
    func retain(_ block: UInt32) { references[Int(block)] += 1 }

    func release(_ block: UInt32) {
        references[Int(block)] -= 1
        guard references[Int(block)] == 0 else { return }
        free.append(block)
        let start = Int(block) * blockBytes
        memory.discard(start..<start + blockBytes)
    }
}

/// One sequence's part of the KV cache: a table of blocks for each layer.
///
/// Used by the engine thread alone.
public final class KVSequence {
    let pool: KVPool
    private let layers: Int
    private let maxBlocks: Int
    private let tables: UnsafeMutablePointer<UInt32>
    /// Blocks that a layer uses in a ring; 0 where it keeps every token.
    private let rings: [Int]
    private var allocated: [Int]
    /// Tokens in the cache.
    public private(set) var count = 0
    /// Tokens that it may hold at most.
    public let limit: Int

    init(pool: KVPool, rings: [Int], limit: Int) {
        self.pool = pool
        self.rings = rings
        layers = rings.count
        self.limit = limit
        maxBlocks = (limit + KVPool.tokensPerBlock - 1) / KVPool.tokensPerBlock
        tables = .allocate(capacity: layers * maxBlocks)
        tables.initialize(repeating: 0, count: layers * maxBlocks)
        allocated = Array(repeating: 0, count: layers)
    }

    deinit {
        releaseBlocks()
        tables.deallocate()
    }

    private func releaseBlocks() {
        for layer in 0..<layers {
            for index in 0..<allocated[layer] { pool.release(tables[layer * maxBlocks + index]) }
            allocated[layer] = 0
        }
    }

    /// Forgets all tokens.
    public func reset() {
        releaseBlocks()
        count = 0
    }

    private func blocks(_ layer: Int, tokens: Int) -> Int {
        let needed = (tokens + KVPool.tokensPerBlock - 1) / KVPool.tokensPerBlock
        return rings[layer] > 0 ? min(needed, rings[layer]) : needed
    }

    /// Makes room for `extra` more tokens.
    /// - Throws: ``EngineError`` where the context or the pool has no room; then nothing has changed.
    public func reserve(_ extra: Int) throws {
        guard count + extra <= limit else {
            throw EngineError("the context is full: \(count) + \(extra) tokens, \(limit) are possible")
        }
        var missing = 0
        for layer in 0..<layers { missing += max(0, blocks(layer, tokens: count + extra) - allocated[layer]) }
        guard missing <= pool.availableBlocks else {
            throw EngineError("the KV cache is full: other requests hold \(pool.usedBytes >> 20) MiB; try again later")
        }
        for layer in 0..<layers {
            while allocated[layer] < blocks(layer, tokens: count + extra), let block = pool.allocate() {
                tables[layer * maxBlocks + allocated[layer]] = block
                allocated[layer] += 1
            }
        }
    }

    /// Counts tokens whose keys and values all layers have stored.
    func advance(_ tokens: Int) { count += tokens }

    func table(_ layer: Int) -> UnsafePointer<UInt32> { UnsafePointer(tables + layer * maxBlocks) }

    func ringBlocks(_ layer: Int) -> Int { rings[layer] }

    /// Where a token's keys and values go.
    func block(_ layer: Int, position: Int) -> UnsafeMutablePointer<UInt8> {
        var index = position / KVPool.tokensPerBlock
        if rings[layer] > 0 { index %= rings[layer] }
        let block = tables[layer * maxBlocks + index]
        return (pool.base + Int(block) * pool.blockBytes).assumingMemoryBound(to: UInt8.self)
    }
}
