import Glibc

/// Memory of a control group and of those above it, version 2, or version 1 where that holds the memory controller
/// (https://docs.kernel.org/admin-guide/cgroup-v2.html, …/cgroup-v1/memory.html).
public struct CgroupMemory: Sendable, Equatable {
    /// Folder of the group whose limit is the tightest.
    public var folder: String
    public var current: Int
    /// memory.high or memory.max, whichever is less; nil for none.
    public var limit: Int?
    /// Bytes of the page cache that are charged to it: the kernel can take them back.
    public var file: Int
    /// Processes that the kernel killed in it for want of memory.
    public var kills: Int

    /// Bytes that can still be taken: what is not in use by anything but clean pages.
    public var headroom: Int? { limit.map { max(0, $0 - max(0, current - file)) } }

    /// Where the process' own group lies; nil where the system has no memory controller.
    public struct Place: Sendable, Equatable {
        public var folder: String
        var root: String
        var isVersion2: Bool

        /// Reads /proc/self/cgroup.
        public static func own(
            membership: String? = textFile("/proc/self/cgroup"), mount: String = "/sys/fs/cgroup"
        ) -> Place? {
            guard let membership else { return nil }
            var found: Place?
            for line in membership.split(separator: "\n") {
                let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
                guard parts.count == 3 else { continue }
                if parts[1].split(separator: ",").contains("memory") {
                    let root = mount + "/memory"
                    // In a container the path may be that of the host: then the mount itself is the group.
                    let folder = root + (parts[2] == "/" ? "" : parts[2])
                    let isThere = access(folder + "/memory.usage_in_bytes", R_OK) == 0
                    found = Place(folder: isThere ? folder : root, root: root, isVersion2: false)
                } else if parts[0] == "0", found == nil {
                    let folder = mount + (parts[2] == "/" ? "" : parts[2])
                    if access(folder + "/memory.current", R_OK) == 0 {
                        found = Place(folder: folder, root: mount, isVersion2: true)
                    }
                }
            }
            guard let found, access(found.folder + "/memory.stat", R_OK) == 0 else { return nil }
            return found
        }

        /// Its pressure file; nil in version 1.
        var pressureFile: String? { isVersion2 ? folder + "/memory.pressure" : nil }
    }

    /// Figures of the tightest of a group and those above it; nil where its files cannot be read.
    public static func now(_ place: Place) -> CgroupMemory? {
        var folder = place.folder
        var tightest: CgroupMemory?
        while folder.hasPrefix(place.root) {
            if let memory = CgroupMemory(folder: folder, isVersion2: place.isVersion2) {
                if tightest == nil || memory.headroom ?? .max < tightest?.headroom ?? .max { tightest = memory }
            }
            guard let slash = folder.lastIndex(of: "/"), folder != place.root else { break }
            folder = String(folder[..<slash])
        }
        return tightest
    }

    init?(folder: String, isVersion2: Bool) {
        func number(_ name: String) -> Int? {
            textFile(folder + "/" + name).flatMap { Int($0.filter { $0 != "\n" }) }
        }
        func value(_ key: String, of name: String) -> Int {
            let line = textFile(folder + "/" + name)?.split(separator: "\n").first { $0.hasPrefix(key + " ") }
            return line.flatMap { Int($0.dropFirst(key.utf8.count + 1)) } ?? 0
        }
        self.folder = folder
        if isVersion2 {
            guard let current = number("memory.current") else { return nil }
            self.current = current
            limit = [number("memory.high"), number("memory.max")].compactMap { $0 }.min()
            file = max(0, value("file", of: "memory.stat") - value("shmem", of: "memory.stat"))
            kills = value("oom_kill", of: "memory.events")
        } else {
            guard let current = number("memory.usage_in_bytes") else { return nil }
            self.current = current
            // "No limit" is a number close to 2^63.
            limit = number("memory.limit_in_bytes").flatMap { $0 < 1 << 60 ? $0 : nil }
            file = max(0, value("total_cache", of: "memory.stat") - value("total_shmem", of: "memory.stat"))
            kills = value("oom_kill", of: "memory.oom_control")
        }
    }
}

/// How close the own control group is to its limit, by polling.
public struct CgroupSource: PressureSource {
    public let name = "cgroup"
    private let place: CgroupMemory.Place

    public init(_ place: CgroupMemory.Place) { self.place = place }

    public func read() -> PressureReading {
        guard let memory = CgroupMemory.now(place) else {
            return PressureReading(level: .nominal, text: "\(place.folder) has vanished; not in use")
        }
        return Self.reading(memory)
    }

    /// The level of a figure: the shares are those of MemAvailable.
    public static func reading(_ memory: CgroupMemory) -> PressureReading {
        guard let limit = memory.limit, let headroom = memory.headroom else {
            return PressureReading(level: .nominal, text: "no limit, \(memory.current >> 20) MiB in use")
        }
        let share = Double(headroom) / Double(max(limit, 1))
        let level: PressureLevel = share < 0.05 ? .critical : share < 0.10 ? .warning : .nominal
        return PressureReading(
            level: level,
            text: "\(headroom >> 20) of \(limit >> 20) MiB free or reclaimable in \(memory.folder.dropFirst(14))")
    }
}
