import Glibc

/// Memory in a mapping of its own, zeroed, touched only where it is used. Dropping it returns it to the system at once.
///
/// @unchecked Sendable: a block of bytes; who writes where is its users' agreement.
public final class AnonymousMemory: @unchecked Sendable {
    public let base: UnsafeMutableRawPointer
    public let byteCount: Int

    /// - Parameter hugePages: ask for huge pages, for memory that will be used in full.
    public init(byteCount: Int, hugePages: Bool = false) throws {
        let size = max(byteCount, 1)
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let base = mmap(nil, size, PROT_READ | PROT_WRITE, flags, -1, 0), base != MAP_FAILED else {
            throw EngineError(.resources, "the system refuses \(byteCount >> 20) MiB of memory")
        }
        if hugePages { madvise(base, size, MADV_HUGEPAGE) }
        self.base = base
        self.byteCount = byteCount
    }

    /// Rows of a step from which on its buffers are used in nearly full.
    static let rowsForHugePages = 384

    /// Asks for huge pages, or no longer, for what is touched from now on.
    func setHugePages(_ wanted: Bool) { madvise(base, byteCount, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) }

    var region: MemoryRegion { MemoryRegion(UnsafeRawBufferPointer(start: base, count: byteCount)) }

    deinit { munmap(base, max(byteCount, 1)) }

    /// Gives all pages back; they read as zero afterwards.
    func discard() { discard(0..<byteCount) }

    /// The smallest that Linux has on the CPUs that Ebb runs on.
    static let page = 4096

    /// Gives the pages that lie in a range whole back; they read as zero afterwards.
    func discard(_ range: Range<Int>) {
        let page = Self.page
        let start = (range.lowerBound + page - 1) / page * page
        let end = range.upperBound / page * page
        if start < end { madvise(base + start, end - start, MADV_DONTNEED) }
    }
}
