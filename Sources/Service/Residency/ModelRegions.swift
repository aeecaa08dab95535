import EbbProtocol
import Engine

/// Where a model's memory lies: what it takes of it is asked of the kernel.
struct ModelRegions: Sendable {
    let mapped, expanded, kv, scratch: [MemoryRegion]

    /// Writes the bytes that are in RAM now.
    func measure(into status: inout EbbModelStatus) {
        func resident(_ regions: [MemoryRegion]) -> UInt64 { UInt64(MemoryRegion.residentBytes(regions) ?? 0) }
        status.residentBytes = resident(mapped)
        status.expandedBytes = resident(expanded)
        status.kvBytes = resident(kv)
        status.scratchBytes = resident(scratch)
    }
}
