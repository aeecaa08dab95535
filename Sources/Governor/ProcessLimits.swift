import Glibc

/// What the process may map (setrlimit(2)) and what it has mapped (/proc/self/statm): pages that are only reserved count.
public struct ProcessLimits: Sendable, Equatable {
    /// RLIMIT_AS and RLIMIT_DATA, bytes; nil for none.
    public var addressSpace: Int?
    public var data: Int?
    /// Bytes of all mappings, and of those that are private and writable; nil where that cannot be read.
    public var mapped: Int?
    public var mappedData: Int?
    /// Bytes of mapped files that are in RAM.
    public var file: Int

    public init(addressSpace: Int?, data: Int?, mapped: Int?, mappedData: Int?, file: Int = 0) {
        (self.addressSpace, self.data, self.mapped, self.mappedData) = (addressSpace, data, mapped, mappedData)
        self.file = file
    }

    private static let file = HeldFile("/proc/self/statm")

    public static func now() -> ProcessLimits {
        let statm = file.text().flatMap { Statm($0, pageBytes: sysconf(Int32(_SC_PAGESIZE))) }
        return ProcessLimits(
            addressSpace: limit(RLIMIT_AS), data: limit(RLIMIT_DATA), mapped: statm?.mapped, mappedData: statm?.data,
            file: statm?.shared ?? 0)
    }

    private static func limit(_ resource: __rlimit_resource) -> Int? {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0 else { return nil }
        // RLIM_INFINITY is the largest number there is.
        return Int(exactly: limit.rlim_cur)
    }

    /// Bytes that can still be mapped; nil where there is no limit. A limit without a figure leaves nothing.
    public var left: Int? {
        func left(_ limit: Int?, _ used: Int?) -> Int? { limit.map { max(0, $0 - (used ?? $0)) } }
        return [left(addressSpace, mapped), left(data, mappedData)].compactMap { $0 }.min()
    }

    /// /proc/self/statm, in bytes.
    public struct Statm: Sendable, Equatable {
        public var mapped, resident, shared, data: Int

        public init?(_ text: String, pageBytes: Int) {
            let pages = text.split(whereSeparator: { $0 == " " || $0 == "\n" }).map { Int($0) }
            guard pages.count >= 6, pageBytes > 0,
                let mapped = pages[0], let resident = pages[1], let shared = pages[2], let data = pages[5],
                [mapped, resident, shared, data].allSatisfy({ (0...Int.max / pageBytes).contains($0) })
            else { return nil }
            self.mapped = mapped * pageBytes
            self.resident = resident * pageBytes
            self.shared = shared * pageBytes
            self.data = data * pageBytes
        }
    }
}
