import CKernels

/// One sequence's part of the KV cache: a table of blocks for each layer.
///
/// Used by the engine thread alone.
public final class KVSequence {
    let pool: KVPool
    let layers: Int
    /// Blocks of a layer that the tables have room for: as many as were needed so far.
    private var maxBlocks = 0
    private var tables = UnsafeMutablePointer<UInt32>.allocate(capacity: 0)
    /// Blocks that a layer uses in a ring; 0 where it keeps every token.
    private let rings: [Int]
    private var allocated: [Int]
    /// Tokens in the cache.
    public private(set) var count = 0
    /// Tokens that it may hold at most.
    public let limit: Int

    package init(pool: KVPool, rings: [Int], limit: Int) {
        self.pool = pool
        self.rings = rings
        layers = rings.count
        self.limit = limit
        allocated = Array(repeating: 0, count: layers)
    }

    deinit {
        releaseBlocks()
        tables.deallocate()
    }

    /// Makes the tables long enough for some tokens.
    private func makeTables(tokens: Int) {
        let needed = (0..<layers).reduce(0) { max($0, blocks($1, tokens: tokens)) }
        guard needed > maxBlocks else { return }
        let longest = (limit + KVPool.tokensPerBlock - 1) / KVPool.tokensPerBlock
        let room = min(longest, max(needed, 2 * maxBlocks))
        let longer = UnsafeMutablePointer<UInt32>.allocate(capacity: layers * room)
        longer.initialize(repeating: 0, count: layers * room)
        for layer in 0..<layers {
            (longer + layer * room).update(from: tables + layer * maxBlocks, count: allocated[layer])
        }
        tables.deallocate()
        (tables, maxBlocks) = (longer, room)
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

    /// Bytes of its blocks, shared ones included.
    public var byteCount: Int {
        (0..<layers).reduce(0) { sum, layer in blocks(layer).reduce(sum) { $0 + pool.content($1).count } }
    }

    func blocks(_ layer: Int) -> UnsafeBufferPointer<UInt32> {
        UnsafeBufferPointer(start: tables + layer * maxBlocks, count: allocated[layer])
    }

    private func blocks(_ layer: Int, tokens: Int) -> Int {
        let needed = (tokens + KVPool.tokensPerBlock - 1) / KVPool.tokensPerBlock
        return rings[layer] > 0 ? min(needed, rings[layer]) : needed
    }

    /// Blocks that `extra` more tokens will take.
    public func missingBlocks(_ extra: Int) -> Int {
        let end = min(limit, count + extra)
        return (0..<layers).reduce(0) { $0 + max(0, blocks($1, tokens: end) - allocated[$1]) }
    }

    /// Blocks in f16 that it may still take until it holds `tokens` tokens: those it has not got yet, and copies of those
    /// that will be written to and may not be, since they are shared or have turned int8. What a sequence takes or gives
    /// up on its way changes this and the pool's ``KVPool/availableBlocks`` alike, so that room once found stays.
    public func outstandingBlocks(to tokens: Int) -> Int {
        let extra = min(limit, tokens) - count
        return extra > 0 ? missingBlocks(extra) + unwritable(extra).count : 0
    }

    /// Bytes of those of its blocks that other sequences use too.
    public var sharedByteCount: Int {
        (0..<layers).reduce(0) { sum, layer in
            blocks(layer).reduce(sum) { $0 + (pool.isShared($1) ? pool.content($1).count : 0) }
        }
    }

    /// Makes room for `extra` more tokens.
    /// - Throws: ``EngineError`` where the context or the pool has no room; then nothing has changed.
    public func reserve(_ extra: Int) throws {
        guard count + extra <= limit else {
            throw EngineError(.contextFull, "the context is full: \(count) + \(extra) tokens, \(limit) are possible")
        }
        makeTables(tokens: count + extra)
        let unwritable = unwritable(extra)
        guard missingBlocks(extra) + unwritable.count <= pool.availableBlocks else {
            throw EngineError(.kvFull, "the KV cache is full: other requests hold \(pool.usedBytes >> 20) MiB")
        }
        for place in unwritable {
            if let block = pool.toWritable(tables[place]) { tables[place] = block }
        }
        for layer in 0..<layers {
            while allocated[layer] < blocks(layer, tokens: count + extra), let block = pool.allocate() {
                tables[layer * maxBlocks + allocated[layer]] = block
                allocated[layer] += 1
            }
        }
    }

    /// Places in the tables of blocks that `extra` more tokens would be written to, and cannot: rings come back to
    /// blocks that have turned int8, or are shared.
    private func unwritable(_ extra: Int) -> [Int] {
        let first = count / KVPool.tokensPerBlock
        let last = (count + max(1, extra) - 1) / KVPool.tokensPerBlock
        var places: [Int] = []
        for layer in 0..<layers where allocated[layer] > 0 {
            let end = rings[layer] > 0 ? first + rings[layer] - 1 : allocated[layer] - 1
            for index in first..<max(first, min(last, end) + 1) {
                let index = rings[layer] > 0 ? index % rings[layer] : index
                guard index < allocated[layer] else { continue }
                let place = layer * maxBlocks + index
                if !pool.isWritable(tables[place]) { places.append(place) }
            }
        }
        return places
    }

    /// Counts tokens whose keys and values all layers have stored.
    package func advance(_ tokens: Int) { count += tokens }

    func table(_ layer: Int) -> UnsafePointer<UInt32> { UnsafePointer(tables + layer * maxBlocks) }

    func ringBlocks(_ layer: Int) -> Int { rings[layer] }

    // MARK: int8

    /// Turns full blocks int8, at most `most` of them. DESIGN.md, section 4.
    /// - Returns: how many were turned; less than `most` where none is left that can be.
    public func compact(most: Int) -> Int {
        var turned = 0
        let full = count / KVPool.tokensPerBlock
        for layer in 0..<layers {
            // A ring's next block is written to soon.
            let next = rings[layer] > 0 ? full % rings[layer] : full
            for index in 0..<min(full, allocated[layer]) where index != next {
                let place = layer * maxBlocks + index
                guard pool.isWritable(tables[place]) else { continue }
                guard turned < most, let block = pool.toInt8(tables[place]) else { return turned }
                tables[place] = block
                turned += 1
            }
        }
        return turned
    }

    // MARK: Prefixes

    /// The most tokens, at most `tokens` and in whole blocks, that a sequence could begin with by sharing this one's
    /// blocks. A layer with a window keeps the last tokens only, so that it can be gone on from near its end alone.
    public func shareable(_ tokens: Int) -> Int {
        let size = KVPool.tokensPerBlock
        let whole = min(tokens, count) / size * size
        for layer in 0..<layers where rings[layer] > 0 && count > rings[layer] * size {
            guard whole == count / size * size else { return 0 }
        }
        return whole
    }

    /// A sequence that begins with this one's first tokens, and shares their blocks; nil where too many sequences share
    /// them already.
    /// - Parameter tokens: as ``shareable(_:)`` returns them.
    public func fork(_ tokens: Int) -> KVSequence? {
        let fork = KVSequence(pool: pool, rings: rings, limit: limit)
        fork.makeTables(tokens: tokens)
        for layer in 0..<layers {
            for block in blocks(layer).prefix(blocks(layer, tokens: tokens)) {
                // What it has shared so far goes back with it.
                guard pool.retain(block) else { return nil }
                fork.tables[layer * fork.maxBlocks + fork.allocated[layer]] = block
                fork.allocated[layer] += 1
            }
        }
        fork.count = tokens
        return fork
    }

    // MARK: Parking

    /// All that the layout of what ``write(_:)`` hands over depends on, besides the tokens.
    public var layout: [UInt32] {
        let sizes = [KVPool.tokensPerBlock, pool.kvHeads, pool.headDim, pool.blockBytes, pool.int8BlockBytes]
        return (sizes + rings).map { UInt32(clamping: $0) }
    }

    /// Hands over everything it takes to make the sequence again, in pieces.
    public func write(_ piece: (UnsafeRawBufferPointer) throws -> Void) rethrows {
        var head = [UInt32(count), UInt32(layers)]
        for layer in 0..<layers {
            head.append(UInt32(allocated[layer]))
            for block in blocks(layer) { head.append(block & EBB_KV_INT8) }
        }
        try head.withUnsafeBytes(piece)
        for layer in 0..<layers {
            for block in blocks(layer) { try piece(UnsafeRawBufferPointer(pool.content(block))) }
        }
    }

    /// Fills an empty sequence with what ``write(_:)`` handed over.
    /// - Parameter fill: reads as many bytes as the buffer holds.
    /// - Throws: ``EngineError`` for anything that this model's cache cannot have written, or where there is no room;
    ///   and what `fill` throws. The sequence is empty then.
    public func read(_ fill: (UnsafeMutableRawBufferPointer) throws -> Void) throws {
        reset()
        do {
            let tokens = Int(try Self.word(fill))
            guard tokens <= limit, try Self.word(fill) == layers else { throw Self.foreign }
            guard missingBlocks(tokens) <= pool.availableBlocks + pool.availableInt8Blocks else { throw Self.noRoom }
            makeTables(tokens: tokens)
            for layer in 0..<layers {
                let expected = blocks(layer, tokens: tokens)
                guard try Self.word(fill) == expected else { throw Self.foreign }
                for _ in 0..<expected {
                    let kind = try Self.word(fill)
                    guard kind & ~EBB_KV_INT8 == 0 else { throw Self.foreign }
                    guard let block = pool.allocate(like: kind) else { throw Self.noRoom }
                    tables[layer * maxBlocks + allocated[layer]] = block
                    allocated[layer] += 1
                }
            }
            for layer in 0..<layers {
                for block in blocks(layer) { try fill(pool.content(block)) }
            }
            count = tokens
        } catch {
            reset()
            throw error
        }
    }

    private static func word(_ fill: (UnsafeMutableRawBufferPointer) throws -> Void) throws -> UInt32 {
        var word: UInt32 = 0
        try withUnsafeMutableBytes(of: &word) { try fill($0) }
        return word
    }

    private static let noRoom = EngineError(.kvFull, "the KV cache has no room for a parked conversation")
    private static let foreign = EngineError(.unusable, "the parked conversation is not of this model")
}
