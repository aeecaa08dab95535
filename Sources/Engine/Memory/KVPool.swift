import CKernels

/// The KV cache of a model: blocks of 32 tokens of one layer, handed out from two reserved regions, f16 and int8.
/// `ebb_kv_view` of the kernels says what a block holds. Blocks have numbers; an int8 block's has `EBB_KV_INT8` set.
///
/// Used by the engine thread alone.
public final class KVPool {
    public static let tokensPerBlock = Int(EBB_KV_BLOCK)

    let kvHeads: Int
    let headDim: Int
    /// Bytes of a block in f16: what a full-precision cache takes for 32 tokens of one layer.
    public let blockBytes: Int
    private let kernels: UnsafePointer<ebb_kernels>
    private var halves: Region
    private var bytes: Region
    /// Sequences that may hold a block.
    private let mostHolders: UInt32

    /// Equal blocks in one mapping.
    private struct Region {
        let memory: AnonymousMemory
        let blockBytes: Int
        let capacity: Int
        private var free: [UInt32] = []
        /// For each block handed out so far, how many hold it.
        private var references: [UInt32] = []

        init(blockBytes: Int, capacity: Int) throws {
            self.blockBytes = blockBytes
            self.capacity = capacity
            let (byteCount, overflow) = capacity.multipliedReportingOverflow(by: blockBytes)
            guard !overflow else { throw EngineError(.invalid, "a KV cache of \(capacity) blocks is impossible") }
            memory = try AnonymousMemory(byteCount: byteCount)
        }

        var used: Int { references.count - free.count }

        var touched: MemoryRegion {
            MemoryRegion(UnsafeRawBufferPointer(start: memory.base, count: references.count * blockBytes))
        }

        mutating func allocate() -> UInt32? {
            if let block = free.popLast() {
                references[Int(block)] = 1
                return block
            }
            guard references.count < capacity else { return nil }
            references.append(1)
            return UInt32(references.count - 1)
        }

        func isShared(_ block: UInt32) -> Bool { references[Int(block)] > 1 }

        mutating func retain(_ block: UInt32, atMost most: UInt32) -> Bool {
            guard references[Int(block)] < most else { return false }
            references[Int(block)] += 1
            return true
        }

        mutating func release(_ block: UInt32) {
            references[Int(block)] -= 1
            guard references[Int(block)] == 0 else { return }
            free.append(block)
            discard(Int(block))
        }

        /// Gives the pages of a free block back, and those at its ends whose other blocks are free, too: int8 blocks do
        /// not begin at pages, and a page between two of them goes with the second.
        private func discard(_ block: Int) {
            let page = AnonymousMemory.page
            let firstPage = block * blockBytes / page * page
            let lastPage = ((block + 1) * blockBytes + page - 1) / page * page
            var (first, end) = (block, block + 1)
            while first > 0, references[first - 1] == 0, first * blockBytes > firstPage { first -= 1 }
            while end < references.count, references[end] == 0, end * blockBytes < lastPage { end += 1 }
            // Nothing lies behind the last block that was ever handed out.
            memory.discard(first * blockBytes..<(end == references.count ? lastPage : end * blockBytes))
        }

        func at(_ block: UInt32) -> UnsafeMutableRawPointer { memory.base + Int(block) * blockBytes }
    }

    /// - Parameter capacity: blocks, of all layers and sequences together; fewer where the system does not let that much
    ///   be reserved.
    package init(
        kvHeads: Int, headDim: Int, capacity: Int, kernels: Kernels, mostHolders: UInt32 = .max
    ) throws {
        self.kvHeads = kvHeads
        self.mostHolders = mostHolders
        self.headDim = headDim
        self.kernels = kernels.table
        blockBytes = 2 * kvHeads * headDim * Self.tokensPerBlock * 2
        (halves, bytes) = try Self.regions(
            blockBytes, kvHeads * ebb_kv_int8_bytes(UInt32(headDim)), capacity: min(capacity, Self.mostBlocks))
    }

    /// Numbers of blocks leave the highest bit to `EBB_KV_INT8`.
    private static let mostBlocks = Int(Int32.max)

    /// Address space for the blocks. Where a limit refuses it (RLIMIT_AS, strict overcommit), half of what it allows: the
    /// rest of the process needs some too.
    private static func regions(_ halfBytes: Int, _ int8Bytes: Int, capacity: Int) throws -> (Region, Region) {
        func reserved(_ capacity: Int) throws -> (Region, Region) {
            (
                try Region(blockBytes: halfBytes, capacity: capacity),
                try Region(blockBytes: int8Bytes, capacity: capacity)
            )
        }
        do { return try reserved(capacity) } catch  where capacity > 1 {
            var possible = capacity / 2
            while possible > 1, (try? reserved(possible)) == nil { possible /= 2 }
            return try reserved(max(1, possible / 2))
        }
    }

    var base: UnsafeMutableRawPointer { halves.memory.base }
    var int8Base: UnsafeMutableRawPointer { bytes.memory.base }
    var int8BlockBytes: Int { bytes.blockBytes }
    /// Byte offset of the values in an f16 block.
    var valuesOffset: Int { blockBytes / 2 }
    /// Blocks in use, and how many of them are int8.
    public var usedBlocks: Int { halves.used + bytes.used }
    public var int8Blocks: Int { bytes.used }
    /// Bytes of the blocks in use.
    public var usedBytes: Int { halves.used * halves.blockBytes + bytes.used * bytes.blockBytes }
    /// Blocks that there can be.
    public var capacity: Int { halves.capacity }
    /// Blocks that can still be handed out.
    public var availableBlocks: Int { halves.capacity - halves.used }
    var availableInt8Blocks: Int { bytes.capacity - bytes.used }
    /// The parts of the mappings that blocks have been handed out of.
    var regions: [MemoryRegion] { [halves.touched, bytes.touched] }

    private static func isInt8(_ block: UInt32) -> Bool { block & EBB_KV_INT8 != 0 }

    /// An f16 block, or nil where the pool is exhausted.
    package func allocate() -> UInt32? { halves.allocate() }

    /// A block of the kind that a number names.
    func allocate(like block: UInt32) -> UInt32? {
        Self.isInt8(block) ? bytes.allocate().map { $0 | EBB_KV_INT8 } : halves.allocate()
    }

    /// Shares a block (a common prefix). False, and nothing has happened, where too many hold it already.
    func retain(_ block: UInt32) -> Bool {
        Self.isInt8(block)
            ? bytes.retain(block & ~EBB_KV_INT8, atMost: mostHolders) : halves.retain(block, atMost: mostHolders)
    }

    func release(_ block: UInt32) {
        if Self.isInt8(block) { bytes.release(block & ~EBB_KV_INT8) } else { halves.release(block) }
    }

    func isShared(_ block: UInt32) -> Bool {
        Self.isInt8(block) ? bytes.isShared(block & ~EBB_KV_INT8) : halves.isShared(block)
    }

    /// Whether a token may be stored in a block: f16, and nobody else's.
    func isWritable(_ block: UInt32) -> Bool { !Self.isInt8(block) && !halves.isShared(block) }

    /// The bytes of a block.
    func content(_ block: UInt32) -> UnsafeMutableRawBufferPointer {
        Self.isInt8(block)
            ? UnsafeMutableRawBufferPointer(start: bytes.at(block & ~EBB_KV_INT8), count: bytes.blockBytes)
            : UnsafeMutableRawBufferPointer(start: halves.at(block), count: halves.blockBytes)
    }

    /// The same tokens in int8, in exchange for the f16 block; nil where there is no room.
    func toInt8(_ block: UInt32) -> UInt32? {
        guard let number = bytes.allocate() else { return nil }
        forEachHead(f16: block, int8: number) { keys, values, head in
            kernels.pointee.kv_to_int8(keys, values, UInt32(headDim), head)
        }
        release(block)
        return number | EBB_KV_INT8
    }

    /// The same tokens in a block that may be written to, in exchange for the given one; nil where there is no room.
    func toWritable(_ block: UInt32) -> UInt32? {
        guard let number = halves.allocate() else { return nil }
        if Self.isInt8(block) {
            forEachHead(f16: number, int8: block & ~EBB_KV_INT8) { keys, values, head in
                kernels.pointee.kv_from_int8(head, UInt32(headDim), keys, values)
            }
        } else {
            halves.at(number).copyMemory(from: halves.at(block), byteCount: blockBytes)
        }
        release(block)
        return number
    }

    private func forEachHead(
        f16: UInt32, int8: UInt32,
        _ body: (UnsafeMutablePointer<UInt16>, UnsafeMutablePointer<UInt16>, UnsafeMutablePointer<UInt8>) -> Void
    ) {
        let (keys, headBytes) = (halves.at(f16), headDim * Self.tokensPerBlock * 2)
        for head in 0..<kvHeads {
            body(
                (keys + head * headBytes).assumingMemoryBound(to: UInt16.self),
                (keys + valuesOffset + head * headBytes).assumingMemoryBound(to: UInt16.self),
                (bytes.at(int8) + head * ebb_kv_int8_bytes(UInt32(headDim))).assumingMemoryBound(to: UInt8.self))
        }
    }
}
