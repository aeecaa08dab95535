import Engine
import Foundation
import TestKit
import Testing

/// A machine's files, in a folder of their own.
private final class FakeMachine {
    private let folder: TemporaryFolder
    private let processors: Int

    init(processors: Int) throws {
        folder = try TemporaryFolder()
        self.processors = processors
        if processors > 0 { try mask("0-\(processors - 1)") }
    }

    func write(_ path: String, _ text: String) throws {
        let url = URL(fileURLWithPath: folder.path + path)
        try FileManager.default.createDirectory(
            at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data((text + "\n").utf8).write(to: url)
    }

    /// A file of each processor, below its folder.
    func each(_ file: String, _ text: (Int) -> String) throws {
        for number in 0..<processors { try write("/sys/devices/system/cpu/cpu\(number)/\(file)", text(number)) }
    }

    /// - Parameter affinity: the mask; all where it is left out.
    func threads(affinity: [Int]? = nil) throws -> Int {
        if let affinity { try mask(affinity.map(String.init).joined(separator: ",")) }
        return read().threads
    }

    func read() -> Processors { ProcessorFiles(root: folder.path).read() }

    private func mask(_ list: String) throws {
        try write("/proc/self/status", "Name:\tebbd\nCpus_allowed_list:\t\(list)\nMems_allowed_list:\t0")
    }
}

@Suite("How many threads compute where nobody says")
struct ProcessorsTests {
    private static let capacity = "cpu_capacity"
    private static let frequency = "cpufreq/cpuinfo_max_freq"
    private static let siblings = "topology/core_cpus_list"

    @Test("One for each core where all are alike")
    func alike() throws {
        let machine = try FakeMachine(processors: 6)
        try machine.each(Self.siblings) { "\($0)" }
        try machine.each(Self.capacity) { _ in "1024" }
        try machine.each(Self.frequency) { _ in "3000000" }
        #expect(try machine.threads() == 6)
    }

    @Test("Two hyper-threads of a core count once, in either order of numbers", arguments: [true, false])
    func hyperThreads(neighbours: Bool) throws {
        let machine = try FakeMachine(processors: 8)
        try machine.each(Self.siblings) { neighbours ? "\($0 & ~1)-\($0 | 1)" : "\($0 % 4),\($0 % 4 + 4)" }
        #expect(try machine.threads() == 4)
        // Of core 0 both, of another one.
        #expect(try machine.threads(affinity: neighbours ? [0, 1, 2] : [0, 4, 2]) == 2)
    }

    @Test("Older kernels name hyper-threads otherwise")
    func olderName() throws {
        let machine = try FakeMachine(processors: 4)
        try machine.each("topology/thread_siblings_list") { "\($0 & ~1)-\($0 | 1)" }
        #expect(try machine.threads() == 2)
    }

    @Test("Little cores are left out by their capacity; middle ones count")
    func capacities() throws {
        let machine = try FakeMachine(processors: 8)
        let capacities = [250, 250, 250, 250, 780, 780, 780, 1024]
        try machine.each(Self.capacity) { "\(capacities[$0])" }
        // What the capacity has decided is not asked of the frequency.
        try machine.each(Self.frequency) { $0 == 7 ? "3000000" : "2000000" }
        #expect(try machine.threads() == 4)
    }

    @Test("Without capacities, or where they are equal, the highest frequency tells", arguments: [true, false])
    func frequencies(equal: Bool) throws {
        let machine = try FakeMachine(processors: 6)
        if equal { try machine.each(Self.capacity) { _ in "1024" } }
        // Two that are picked for a higher boost, two as good, two small ones.
        let frequencies = [5_700_000, 5_700_000, 5_500_000, 5_500_000, 4_600_000, 4_600_000]
        try machine.each(Self.frequency) { "\(frequencies[$0])" }
        #expect(try machine.threads() == 4)
    }

    @Test("Of Intel's hybrids cores count, not atoms, each once")
    func intel() throws {
        let machine = try FakeMachine(processors: 8)
        try machine.write("/sys/devices/cpu_core/cpus", "0-3")
        try machine.write("/sys/devices/cpu_atom/cpus", "4-7")
        try machine.each(Self.capacity) { _ in "1024" }
        try machine.each(Self.siblings) { $0 < 4 ? "\($0 & ~1)-\($0 | 1)" : "\($0)" }
        #expect(try machine.threads() == 2)
        // Whoever gives atoms alone gets them.
        #expect(try machine.threads(affinity: [4, 5, 6]) == 3)
    }

    @Test("Only processors of the affinity count, and the best among them is their measure")
    func affinity() throws {
        let machine = try FakeMachine(processors: 8)
        try machine.each(Self.capacity) { $0 < 4 ? "400" : "1024" }
        #expect(try machine.threads(affinity: [0, 1, 5]) == 1)
        #expect(try machine.threads(affinity: [0, 1, 2]) == 3)
    }

    @Test("A mask may name processors that are not there")
    func maskBeyond() throws {
        let machine = try FakeMachine(processors: 4)
        try machine.write("/sys/devices/system/cpu/online", "0-3")
        try machine.write("/proc/self/status", "Name:\tebbd\nCpus_allowed:\tffff\nCpus_allowed_list:\t2-127\nMems:\t0")
        #expect(machine.read().allowed.map(\.number) == [2, 3])
    }

    @Test("This process has processors that it may run on, and no more threads")
    func here() throws {
        let here = ProcessorFiles().read()
        #expect(!here.allowed.isEmpty)
        #expect((1...here.allowed.count).contains(here.threads))
    }

    @Test("The tightest quota of the group and those above it holds")
    func ancestors() throws {
        let machine = try FakeMachine(processors: 8)
        try machine.write("/proc/self/cgroup", "0::/ebb.slice/limited.slice/ebbd.service")
        try machine.write("/sys/fs/cgroup/ebb.slice/cpu.max", "200000 100000")
        try machine.write("/sys/fs/cgroup/ebb.slice/limited.slice/cpu.max", "max 100000")
        try machine.write("/sys/fs/cgroup/ebb.slice/limited.slice/ebbd.service/cpu.max", "500000 100000")
        #expect(machine.read().quota == 2)
        #expect(try machine.threads() == 2)
        #expect(try machine.threads(affinity: [0]) == 1)
    }

    @Test(
        "In a container, where the group's path is the host's, the mount's quota holds",
        arguments: [
            "0::/system.slice/docker-1.scope", "0::/../other", "0::/",
        ])
    func container(membership: String) throws {
        let machine = try FakeMachine(processors: 8)
        try machine.write("/proc/self/cgroup", membership)
        try machine.write("/sys/fs/cgroup/cpu.max", "300000 100000")
        #expect(try machine.threads() == 3)
    }

    @Test("Control groups of version 1 have quotas, too; -1 is none")
    func version1() throws {
        let machine = try FakeMachine(processors: 8)
        try machine.write("/proc/self/cgroup", "4:memory:/a\n2:cpu,cpuacct:/a/b\n0::/c")
        for (folder, quota) in [("", "-1"), ("/a", "150000"), ("/a/b", "-1")] {
            try machine.write("/sys/fs/cgroup/cpu,cpuacct\(folder)/cpu.cfs_quota_us", quota)
            try machine.write("/sys/fs/cgroup/cpu,cpuacct\(folder)/cpu.cfs_period_us", "50000")
        }
        #expect(machine.read().quota == 3)
    }

    @Test(
        "A quota's rest counts from a quarter on, and there is always one thread",
        arguments: [(0.1, 1), (1, 1), (1.2, 1), (1.25, 2), (1.5, 2), (3.2, 3), (3.9, 4), (1e300, 8)])
    func rest(quota: Double, threads: Int) {
        var processors = Processors(allowed: (0..<8).map { Processors.Processor(number: $0) })
        processors.quota = quota
        #expect(processors.threads == threads)
    }

    @Test("Without any file each processor counts, and without any processor there is one thread")
    func missing() throws {
        let machine = try FakeMachine(processors: 3)
        #expect(try machine.threads() == 3)
        #expect(machine.read().quota == nil)
        #expect(try FakeMachine(processors: 0).threads() == 1)
    }

    @Test("Where the mask is unknown, those online count")
    func online() throws {
        let machine = try FakeMachine(processors: 0)
        try machine.write("/sys/devices/system/cpu/online", "0-2,4")
        try machine.write("/proc/self/status", "Name:\tebbd")
        #expect(try machine.threads() == 4)
    }

    @Test(
        "What makes no sense is left out",
        arguments: [
            "", " ", "-", "-1", "3-1", "1-", "0-99999999999", "9223372036854775808", "1,,2", "0-1-2", "max", "max max",
            "0 0", "100000 0", "-5 100000", "a b", "\0\u{ff}", "1 2 3", "5:\n::\n0:",
        ])
    func malformed(text: String) throws {
        let machine = try FakeMachine(processors: 2)
        for file in [Self.siblings, "topology/thread_siblings_list"] { try machine.each(file) { _ in text } }
        for file in [Self.capacity, Self.frequency] { try machine.each(file) { $0 == 0 ? text : "1000" } }
        try machine.write("/sys/devices/cpu_core/cpus", text)
        try machine.write("/proc/self/cgroup", "0::/a\n\(text)\n1:cpu:/b\nx")
        try machine.write("/sys/fs/cgroup/a/cpu.max", text)
        try machine.write("/sys/fs/cgroup/cpu/b/cpu.cfs_quota_us", text)
        try machine.write("/sys/fs/cgroup/cpu/b/cpu.cfs_period_us", text)
        #expect(try machine.threads() == 2)
        try machine.write("/sys/devices/system/cpu/online", text)
        try machine.write("/proc/self/status", "Cpus_allowed_list:\t\(text)")
        #expect(try machine.threads() == 1)
    }
}
