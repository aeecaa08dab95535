import Glibc
import Synchronization

/// Memory of the process' own control group and of those above it that it can see.
public final class ControlGroup: Sendable {
    /// Figures of one group.
    public struct Memory: Sendable, Equatable {
        /// As people know it: `/system.slice/ebbd.service`.
        public var name: String
        public var current: Int
        /// The least of memory.high and memory.max, or version 1's limits; nil for none.
        public var limit: Int?
        /// Bytes of the page cache that are charged to it: the kernel can take them back.
        public var file: Int

        public init(name: String, current: Int, limit: Int?, file: Int) {
            (self.name, self.current, self.limit, self.file) = (name, current, limit, file)
        }

        /// Bytes that can still be taken: what is not in use by anything but clean pages.
        public var headroom: Int? { limit.map { max(0, $0 - max(0, current - file)) } }
    }

    public enum Reading: Sendable, Equatable {
        /// The system has no memory controller that could be seen.
        case none
        /// There is a group, and its files cannot be read.
        case unknown
        /// The group with the least room, of the own and those above it.
        case memory(Memory)
    }

    /// The group of this process.
    public static let own = ControlGroup()

    private let membership: HeldFile
    private let mounts: String
    private let state = Mutex(State())

    private struct State {
        var membership: String?
        var place: ControlGroupPlace?
        var groups: [Files] = []
    }

    /// - Parameters: paths of /proc/self/cgroup and /proc/self/mountinfo.
    public init(membership: String = "/proc/self/cgroup", mounts: String = "/proc/self/mountinfo") {
        self.membership = HeldFile(membership)
        self.mounts = mounts
    }

    public func read() -> Reading {
        let now = membership.text()
        return state.withLock { state in
            // A process can be moved to another group.
            if let now, now != state.membership { find(now, &state) }
            guard !state.groups.isEmpty else { return now == nil ? .unknown : .none }
            let memories = state.groups.compactMap { $0.memory() }
            guard memories.count == state.groups.count else { return .unknown }
            let tightest = memories.min { $0.headroom ?? .max < $1.headroom ?? .max }
            return tightest.map { .memory($0) } ?? .unknown
        }
    }

    /// The group with the lowest limit; nil where none has one.
    var tightest: Memory? {
        _ = read()
        return state.withLock { $0.groups.compactMap { $0.memory() } }.filter { $0.limit != nil }
            .min { $0.limit ?? .max < $1.limit ?? .max }
    }

    /// The own group's pressure file; nil in version 1.
    var pressureFile: String? {
        _ = read()
        return state.withLock { $0.place }.flatMap { $0.isVersion2 ? $0.folder + "/memory.pressure" : nil }
    }

    private func find(_ membership: String, _ state: inout State) {
        state.membership = membership
        state.groups = []
        state.place = HeldFile(mounts).text().flatMap {
            ControlGroupPlace(membership: membership, mounts: $0) { access($0, R_OK) == 0 }
        }
        guard let place = state.place else { return }
        for folder in place.folders {
            // Version 1 without use_hierarchy: what is above does not count what is below.
            if folder != place.folder, !place.isVersion2,
                HeldFile(folder + "/memory.use_hierarchy").text()?.hasPrefix("0") == true
            {
                break
            }
            // The root of version 2 has no figures.
            let usage = place.isVersion2 ? ControlGroupPlace.usage2 : ControlGroupPlace.usage1
            guard access("\(folder)/\(usage)", R_OK) == 0 else { continue }
            state.groups.append(Files(folder, place))
        }
    }

    /// The files of one group, held open.
    private struct Files: Sendable {
        let name: String
        let isVersion2: Bool
        let usage, statistics: HeldFile
        let limits: [HeldFile]

        init(_ folder: String, _ place: ControlGroupPlace) {
            name = place.name(of: folder)
            isVersion2 = place.isVersion2
            usage = HeldFile("\(folder)/\(isVersion2 ? ControlGroupPlace.usage2 : ControlGroupPlace.usage1)")
            statistics = HeldFile(folder + "/memory.stat")
            let names = isVersion2 ? ["memory.high", "memory.max"] : ["memory.limit_in_bytes"]
            limits = names.map { HeldFile("\(folder)/\($0)") }.filter { access($0.path, F_OK) == 0 }
        }

        func memory() -> Memory? {
            guard let current = usage.text().flatMap(Self.number), let statistics = statistics.text() else {
                return nil
            }
            var figures: [Substring: Int] = [:]
            for line in statistics.split(separator: "\n") {
                let words = line.split(separator: " ")
                if words.count == 2, let value = Int(words[1]), value >= 0 { figures[words[0]] = value }
            }
            var found: [Int] = []
            for file in limits {
                guard let text = file.text() else { return nil }
                if let limit = Self.number(text) { found.append(limit) }
            }
            // Version 1 tells here what groups above allow, also those that a container cannot see.
            if let limit = figures["hierarchical_memory_limit"] { found.append(limit) }
            let pages =
                isVersion2
                ? (figures["file"] ?? 0) - (figures["shmem"] ?? 0)
                : (figures["total_cache"] ?? 0) - (figures["total_shmem"] ?? 0)
            return Memory(
                name: name, current: current, limit: found.filter { $0 < Self.noLimit }.min(), file: max(0, pages))
        }

        /// Version 1 writes "no limit" as a number close to 2^63.
        private static let noLimit = 1 << 60

        /// nil for `max`.
        private static func number(_ text: String) -> Int? { Int(text.filter { $0 != "\n" }).map { max(0, $0) } }
    }
}

/// How close the own control group is to its limit, by polling.
public struct ControlGroupSource: PressureSource {
    public let name = "cgroup"
    private let group: ControlGroup

    public init(_ group: ControlGroup) { self.group = group }

    public func read() -> PressureReading { Self.reading(group.read()) }

    /// The level of a figure: the shares are those of MemAvailable.
    public static func reading(_ reading: ControlGroup.Reading) -> PressureReading {
        switch reading {
        case .none: return PressureReading(level: .nominal, text: "no group with a memory controller")
        case .unknown: return .unknown("its files cannot be read")
        case .memory(let memory):
            guard let limit = memory.limit, let headroom = memory.headroom else {
                return PressureReading(level: .nominal, text: "no limit, \(memory.current >> 20) MiB in use")
            }
            let share = Double(headroom) / Double(max(limit, 1))
            let level: PressureLevel = share < 0.05 ? .critical : share < 0.10 ? .warning : .nominal
            return PressureReading(
                level: level,
                text: "\(headroom >> 20) of \(limit >> 20) MiB free or reclaimable in \(memory.name)")
        }
    }
}
