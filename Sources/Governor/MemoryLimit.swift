import Glibc

/// The smallest limit on memory that holds for the process: what shares of "the memory" are shares of. In a container
/// the machine's memory is not the process'.
public struct MemoryLimit: Sendable, Equatable {
    public var bytes: Int
    /// What sets it, for people: `the machine's memory`, `the control group /ebb`, `RLIMIT_AS`.
    public var name: String

    public init(bytes: Int, name: String) { (self.bytes, self.name) = (bytes, name) }

    /// The limit as it is now.
    public static func now() -> MemoryLimit {
        smallest(machine: SystemMemory.now()?.total ?? installed, group: ControlGroup.own.tightest, ProcessLimits.now())
    }

    /// - Parameter machine: bytes of the machine's memory.
    public static func smallest(machine: Int, group: ControlGroup.Memory?, _ limits: ProcessLimits) -> MemoryLimit {
        var found = MemoryLimit(bytes: machine, name: "the machine's memory")
        func consider(_ bytes: Int?, _ name: String) {
            if let bytes, bytes < found.bytes { found = MemoryLimit(bytes: bytes, name: name) }
        }
        consider(group?.limit, "the control group \(group?.name ?? "")")
        consider(limits.addressSpace, "RLIMIT_AS")
        consider(limits.data, "RLIMIT_DATA")
        return found
    }

    /// The same without /proc.
    private static var installed: Int {
        let (bytes, overflow) = sysconf(Int32(_SC_PHYS_PAGES)).multipliedReportingOverflow(
            by: sysconf(Int32(_SC_PAGESIZE)))
        return overflow ? .max : max(bytes, 0)
    }
}
