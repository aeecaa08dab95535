/// Buffers for the rows of a step, [rows][width] of 32-bit values each, in one mapping that takes memory as it is written.
struct Workspace {
    /// A buffer's place.
    struct Buffer {
        fileprivate let offset: Int
    }

    /// Which buffers a step has. Each starts on a cache line.
    struct Plan {
        let rows: Int
        fileprivate var byteCount = 0

        init(rows: Int) { self.rows = rows }

        /// A buffer of [rows][width].
        mutating func buffer(_ width: Int) -> Buffer {
            defer { byteCount += (width + 15) / 16 * 16 * rows * 4 }
            return Buffer(offset: byteCount)
        }
    }

    private var memory: AnonymousMemory
    private var hasHugePages = false

    /// - Throws: ``EngineError`` where the system refuses the memory.
    init(_ plan: Plan) throws { memory = try AnonymousMemory(byteCount: plan.byteCount) }

    func floats(_ buffer: Buffer) -> UnsafeMutablePointer<Float> {
        (memory.base + buffer.offset).assumingMemoryBound(to: Float.self)
    }

    func integers(_ buffer: Buffer) -> UnsafeMutablePointer<Int32> {
        (memory.base + buffer.offset).assumingMemoryBound(to: Int32.self)
    }

    var region: MemoryRegion { memory.region }
    var byteCount: Int { memory.byteCount }

    /// Asks for huge pages where there are many rows: they lie a page or more apart, which is too many pages for the TLB.
    /// Few rows in huge pages would take far more memory than they need.
    mutating func prepare(rows: Int) {
        guard rows >= AnonymousMemory.rowsForHugePages, !hasHugePages else { return }
        memory.setHugePages(true)
        hasHugePages = true
    }

    /// Gives the pages back.
    func discard() { memory.discard() }

    /// Asks for small pages, until there are many rows again.
    mutating func keepSmallPages() {
        memory.setHugePages(false)
        hasHugePages = false
    }
}
