import Foundation
import Governor
import TestKit
import Testing

/// A system whose files a test writes: what /proc and the control groups' mounts say.
private struct FakedSystem {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    func group(_ path: String, _ files: [String: String]) throws {
        let path = folder.file(path)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        for (name, text) in files { try text.write(toFile: "\(path)/\(name)", atomically: false, encoding: .utf8) }
    }

    func version2(_ path: String, current: Int, high: String = "max", max: String = "max", file: Int = 0) throws {
        try group(
            path,
            [
                "memory.current": "\(current)\n", "memory.high": high + "\n", "memory.max": max + "\n",
                "memory.stat": "anon 1\nfile \(file + 20)\nshmem 20\n",
            ])
    }

    func version1(_ path: String, usage: Int, limit: Int, hierarchical: Int? = nil, isHierarchical: Bool = true) throws
    {
        try group(
            path,
            [
                "memory.usage_in_bytes": "\(usage)\n", "memory.limit_in_bytes": "\(limit)\n",
                "memory.use_hierarchy": isHierarchical ? "1\n" : "0\n",
                "memory.stat":
                    "total_cache 1000\ntotal_shmem 0\nhierarchical_memory_limit \(hierarchical ?? Int.max)\n",
            ])
    }

    /// - Parameter mounts: root and place of each mount, `cgroup2` or the controllers of version 1.
    func control(_ membership: String, _ mounts: [(root: String, point: String, kind: String)]) throws -> ControlGroup {
        let lines = mounts.enumerated().map { number, mount in
            let point = folder.file(mount.point).replacingOccurrences(of: " ", with: "\\040")
            let type = mount.kind == "cgroup2" ? "cgroup2 cgroup rw,nsdelegate" : "cgroup cgroup rw,\(mount.kind)"
            return "\(30 + number) 23 0:\(28 + number) \(mount.root) \(point) rw,relatime shared:9 - \(type)"
        }
        try folder.write("membership", Array(membership.utf8))
        try folder.write("mountinfo", Array((lines.joined(separator: "\n") + "\n").utf8))
        return ControlGroup(membership: folder.file("membership"), mounts: folder.file("mountinfo"))
    }
}

private func memory(_ reading: ControlGroup.Reading) -> ControlGroup.Memory? {
    if case .memory(let memory) = reading { return memory }
    return nil
}

@Suite("Control groups")
struct ControlGroupTests {
    private static let unlimited1 = 0x7FFF_FFFF_FFFF_F000

    @Test("Of a group and those above it, the one with the least room counts; clean pages are room")
    func version2() throws {
        let system = try FakedSystem()
        try system.version2("cgroup", current: 900)
        try system.version2("cgroup/a", current: 500, high: "600", file: 80)
        try system.version2("cgroup/a/b", current: 10)
        let group = try system.control("0::/a/b\n", [("/", "cgroup", "cgroup2")])
        let found = try #require(memory(group.read()))
        #expect(found == ControlGroup.Memory(name: "/a", current: 500, limit: 600, file: 80))
        #expect(found.headroom == 600 - (500 - 80))
    }

    @Test(
        "Of memory.high and memory.max the lower one counts",
        arguments: [("300", "400"), ("400", "300"), ("max", "300")])
    func lower(high: String, max: String) throws {
        let system = try FakedSystem()
        try system.version2("cgroup/a", current: 10, high: high, max: max)
        let group = try system.control("0::/a\n", [("/", "cgroup", "cgroup2")])
        #expect(memory(group.read())?.limit == 300)
    }

    @Test("A group without the controller is limited by what is above it")
    func notDelegated() throws {
        let system = try FakedSystem()
        try system.version2("cgroup/user.slice", current: 100, max: "5000")
        try system.group("cgroup/user.slice/session", ["cgroup.procs": "1"])
        let group = try system.control("0::/user.slice/session\n", [("/", "cgroup", "cgroup2")])
        #expect(memory(group.read())?.limit == 5000)
    }

    @Test("Version 1 is understood, with those above it")
    func version1() throws {
        let system = try FakedSystem()
        try system.version1("cgroup/memory", usage: 9_000_000, limit: Self.unlimited1)
        try system.version1("cgroup/memory/a", usage: 95_000, limit: 100_000)
        try system.version1("cgroup/memory/a/b", usage: 10, limit: Self.unlimited1)
        let group = try system.control("5:cpu:/\n4:memory:/a/b\n0::/\n", [("/", "cgroup/memory", "memory")])
        let found = try #require(memory(group.read()))
        #expect(found.name == "/a" && found.limit == 100_000 && found.headroom == 6000)
        #expect(ControlGroupSource.reading(.memory(found)).level == .warning)
    }

    @Test("Version 1 without hierarchy: what is above does not count what is below")
    func flat() throws {
        let system = try FakedSystem()
        try system.version1("cgroup/memory/a", usage: 95_000, limit: 100_000, isHierarchical: false)
        try system.version1("cgroup/memory/a/b", usage: 10, limit: 200_000, isHierarchical: false)
        let group = try system.control("4:memory:/a/b\n", [("/", "cgroup/memory", "memory")])
        #expect(memory(group.read())?.limit == 200_000)
    }

    @Test("Version 1 in a container: a limit of a group that cannot be seen is known by the hierarchy's")
    func hierarchical() throws {
        let system = try FakedSystem()
        try system.version1("cgroup/memory", usage: 10, limit: Self.unlimited1, hierarchical: 50_000)
        let group = try system.control("4:memory:/\n", [("/", "cgroup/memory", "memory")])
        #expect(memory(group.read())?.limit == 50_000)
    }

    @Test("Both versions at once: the one that holds the memory controller counts", arguments: [false, true])
    func hybrid(isVersion2: Bool) throws {
        let system = try FakedSystem()
        try system.group("cgroup/cpu/a", [:])
        if isVersion2 {
            try system.version2("cgroup/unified/a", current: 10, max: "700")
        } else {
            try system.version1("cgroup/memory/a", usage: 10, limit: 700)
            try system.group("cgroup/unified/a", ["cgroup.procs": "1"])
        }
        let memberships = isVersion2 ? "3:cpu:/a\n0::/a\n" : "4:memory:/a\n3:cpu:/a\n0::/a\n"
        let mounts = [("/", "cgroup/cpu", "cpu"), ("/", "cgroup/unified", "cgroup2")]
        let group = try system.control(
            memberships, mounts + (isVersion2 ? [] : [("/", "cgroup/memory", "memory")]))
        #expect(memory(group.read())?.limit == 700)
    }

    @Test(
        "In a container the mount is the group, by whatever path the process is said to be in",
        arguments: ["/docker/abc", "/", "/docker/abc/in", "/elsewhere/on/the/host", "/../outside"])
    func container(path: String) throws {
        let system = try FakedSystem()
        try system.version2("cgroup", current: 10, max: "800")
        try system.version2("cgroup/in", current: 10, max: "900")
        let group = try system.control("0::\(path)\n", [("/docker/abc", "cgroup", "cgroup2")])
        #expect(memory(group.read())?.limit == 800)
    }

    @Test("A mount's path may have blanks")
    func blanks() throws {
        let system = try FakedSystem()
        try system.version2("a b/c", current: 10, max: "800")
        let group = try system.control("0::/c\n", [("/", "a b", "cgroup2")])
        #expect(memory(group.read())?.limit == 800)
    }

    @Test("A system without a memory controller has no group; nonsense is none either")
    func none() throws {
        let system = try FakedSystem()
        #expect(try system.control("0::/x\n", []).read() == .none)
        #expect(try system.control("rubbish\n::\n0:\n", [("/", "cgroup", "cgroup2")]).read() == .none)
    }

    @Test("A group whose files cannot be read is unknown, and no sign of calm")
    func unknown() throws {
        let system = try FakedSystem()
        try system.version2("cgroup/a", current: 10, max: "800")
        let group = try system.control("0::/a\n", [("/", "cgroup", "cgroup2")])
        #expect(memory(group.read()) != nil)
        try "".write(toFile: system.folder.file("cgroup/a/memory.current"), atomically: false, encoding: .utf8)
        #expect(group.read() == .unknown && ControlGroupSource(group).read().level == nil)
        #expect(ControlGroup(membership: "/nonexistent", mounts: "/nonexistent").read() == .unknown)
    }

    @Test("A process that is moved to another group is limited by that")
    func moved() throws {
        let system = try FakedSystem()
        try system.version2("cgroup/a", current: 10, max: "800")
        try system.version2("cgroup/b", current: 10, max: "900")
        let group = try system.control("0::/a\n", [("/", "cgroup", "cgroup2")])
        #expect(memory(group.read())?.limit == 800)
        try "0::/b\n".write(toFile: system.folder.file("membership"), atomically: false, encoding: .utf8)
        #expect(memory(group.read())?.limit == 900)
    }
}

@Suite("The smallest limit")
struct MemoryLimitTests {
    private let none = ProcessLimits(addressSpace: nil, data: nil, mapped: 10, mappedData: 10)
    private let group = ControlGroup.Memory(name: "/ebb", current: 100, limit: 500, file: 50)

    @Test("Without limits, what the machine has")
    func machine() {
        #expect(MemoryLimit.smallest(machine: 1000, group: nil, none).name == "the machine's memory")
        let unlimited = ControlGroup.Memory(name: "/ebb", current: 100, limit: nil, file: 0)
        #expect(MemoryLimit.smallest(machine: 1000, group: unlimited, none).bytes == 1000)
        let large = ControlGroup.Memory(name: "/ebb", current: 100, limit: 5000, file: 0)
        #expect(MemoryLimit.smallest(machine: 1000, group: large, none).bytes == 1000)
    }

    @Test("Whichever is the smallest counts, and is named")
    func smallest() {
        var limits = none
        #expect(
            MemoryLimit.smallest(machine: 1000, group: group, limits)
                == MemoryLimit(bytes: 500, name: "the control group /ebb"))
        limits.addressSpace = 400
        #expect(MemoryLimit.smallest(machine: 1000, group: group, limits) == MemoryLimit(bytes: 400, name: "RLIMIT_AS"))
        limits.data = 300
        #expect(
            MemoryLimit.smallest(machine: 1000, group: group, limits) == MemoryLimit(bytes: 300, name: "RLIMIT_DATA"))
    }

    @Test("This process has a limit of at most what the machine has")
    func thisProcess() throws {
        let total = try #require(SystemMemory.now()?.total)
        #expect((1...total).contains(MemoryLimit.now().bytes))
    }

    @Test("What is available is the least of what each limit leaves")
    func available() {
        let system = SystemMemory(total: 10_000, available: 6000)
        #expect(PressureSources.available(system: system, group: .none, none) == 6000)
        #expect(PressureSources.available(system: system, group: .memory(group), none) == 450)
        var limits = none
        (limits.addressSpace, limits.mapped) = (2000, 1700)
        #expect(PressureSources.available(system: system, group: .none, limits) == 300)
        (limits.data, limits.mappedData) = (1000, 900)
        #expect(PressureSources.available(system: system, group: .none, limits) == 100)
        // Pages of files can go, in this figure as in the others.
        limits.file = 40
        #expect(PressureSources.available(system: system, group: .none, limits) == 140)
    }

    @Test("What cannot be read leaves nothing")
    func unreadable() {
        let system = SystemMemory(total: 10_000, available: 6000)
        #expect(PressureSources.available(system: nil, group: .none, none) == 0)
        #expect(PressureSources.available(system: system, group: .unknown, none) == 0)
        let limits = ProcessLimits(addressSpace: 2000, data: nil, mapped: nil, mappedData: nil)
        #expect(PressureSources.available(system: system, group: .none, limits) == 0)
    }

    @Test("/proc/self/statm is understood, and nonsense is not")
    func statm() throws {
        let statm = try #require(ProcessLimits.Statm("100 50 20 10 0 60 0\n", pageBytes: 4096))
        #expect(statm.mapped == 409_600 && statm.resident == 204_800 && statm.shared == 81_920 && statm.data == 245_760)
        for text in ["", "1 2 3", "a b c d e f", "9223372036854775807 1 1 1 1 1", "-1 1 1 1 1 1"] {
            #expect(ProcessLimits.Statm(text, pageBytes: 4096) == nil)
        }
    }
}
