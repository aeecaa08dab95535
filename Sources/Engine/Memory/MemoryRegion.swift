import Glibc

/// A piece of the address space, to ask the kernel about.
public struct MemoryRegion: Sendable, Equatable {
    public let start: UInt
    public let byteCount: Int

    public init(_ bytes: UnsafeRawBufferPointer) {
        start = UInt(bitPattern: bytes.baseAddress)
        byteCount = bytes.count
    }

    /// Bytes of some regions that are in RAM for this process now (/proc/self/pagemap, bit 63 of each page's entry:
    /// https://docs.kernel.org/admin-guide/mm/pagemap.html); nil where the kernel does not say.
    public static func residentBytes(_ regions: [MemoryRegion]) -> Int? {
        let fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        var entries = [UInt64](repeating: 0, count: 8192)
        var resident = 0
        for region in regions where region.byteCount > 0 {
            var number = Int(region.start) / page
            let end = (Int(region.start) + region.byteCount + page - 1) / page
            while number < end {
                let count = min(entries.count, end - number)
                let got = pread(fd, &entries, count * 8, number * 8)
                guard got >= 8 else { return nil }
                for entry in entries[..<(got / 8)] where entry >> 63 != 0 { resident += page }
                number += got / 8
            }
        }
        return resident
    }
}
