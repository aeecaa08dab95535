import ModelFormat

/// Reads what ``Processors`` tells, from /sys and /proc
/// (https://docs.kernel.org/admin-guide/cputopology.html, …/cgroup-v2.html). What is missing or makes no sense is left
/// out.
package struct ProcessorFiles {
    private let root: String

    /// - Parameter root: what stands before the paths; another folder in tests.
    package init(root: String = "") { self.root = root }

    package func read() -> Processors {
        var found = Processors(allowed: affinity.sorted().map(processor))
        found.performance = list("/sys/devices/cpu_core/cpus")
        found.quota = quota
        return found
    }

    /// What sched_getaffinity(2) says of the main thread: of the mask, which may name processors that are not there,
    /// those online.
    private var affinity: Set<Int> {
        let online = list("/sys/devices/system/cpu/online")
        let lines = (text("/proc/self/status") ?? "").split(separator: "\n")
        let mask = lines.first { $0.hasPrefix(Self.mask) }.map { Self.list($0.dropFirst(Self.mask.count)) } ?? []
        return online.isEmpty ? mask : mask.isEmpty ? online : mask.intersection(online)
    }

    private static let mask = "Cpus_allowed_list:\t"
    /// The kernel's own bound.
    private static let mostProcessors = 8192

    private func processor(_ number: Int) -> Processors.Processor {
        let folder = "/sys/devices/system/cpu/cpu\(number)"
        var found = Processors.Processor(number: number)
        let siblings = list(folder + "/topology/core_cpus_list")
        // The older name.
        found.siblings = siblings.isEmpty ? list(folder + "/topology/thread_siblings_list") : siblings
        found.capacity = positive(text(folder + "/cpu_capacity"))
        found.frequency = positive(text(folder + "/cpufreq/cpuinfo_max_freq"))
        return found
    }

    /// The tightest quota of the own group and of those above it. The hierarchies are looked for where systemd and
    /// containers mount them. A group that cannot be seen, as the host's in a container, is passed over: then the mount
    /// itself is the container's group.
    private var quota: Double? {
        let memberships = (text("/proc/self/cgroup") ?? "").split(separator: "\n")
        return memberships.flatMap(quotas).min()
    }

    /// - Parameter membership: a line of /proc/self/cgroup, `number:controllers:path`.
    private func quotas(_ membership: Substring) -> [Double] {
        let parts = membership.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3 else { return [] }
        var group = parts[2].split(separator: "/")
        // Seen from a namespace that it lies outside of.
        if group.contains("..") { group = [] }
        var found: [Double] = []
        for length in 0...group.count {
            let folder = group.prefix(length).map { "/" + $0 }.joined()
            if parts[1].isEmpty {
                found += [quota2("/sys/fs/cgroup\(folder)")].compactMap { $0 }
            } else if parts[1].split(separator: ",").contains("cpu") {
                found += ["\(parts[1])", "cpu"].compactMap { quota1("/sys/fs/cgroup/\($0)\(folder)") }
            }
        }
        return found
    }

    /// Version 2: `150000 100000`, microseconds of quota and of period, or `max 100000`.
    private func quota2(_ folder: String) -> Double? {
        let words = (text(folder + "/cpu.max") ?? "").split(whereSeparator: \.isWhitespace)
        return words.count == 2 ? ratio(positive(words[0]), positive(words[1])) : nil
    }

    /// Version 1: a quota of -1 is none.
    private func quota1(_ folder: String) -> Double? {
        ratio(positive(text(folder + "/cpu.cfs_quota_us")), positive(text(folder + "/cpu.cfs_period_us")))
    }

    private func ratio(_ quota: Int?, _ period: Int?) -> Double? {
        guard let quota, let period else { return nil }
        return Double(quota) / Double(period)
    }

    private func positive(_ text: (some StringProtocol)?) -> Int? {
        text.flatMap { Int($0) }.flatMap { $0 > 0 ? $0 : nil }
    }

    private func list(_ path: String) -> Set<Int> { Self.list(text(path) ?? "") }

    /// `0-3,8`; empty where it is none.
    private static func list(_ text: some StringProtocol) -> Set<Int> {
        var found: Set<Int> = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard ends.count <= 2, let first = ends.first ?? nil, let last = ends.last ?? nil, first >= 0,
                first <= last, last < mostProcessors
            else { return [] }
            found.formUnion(first...last)
        }
        return found
    }

    /// A file without the newline at its end; nil where it cannot be read.
    private func text(_ path: String) -> String? {
        guard let bytes = try? SmallFile.read(root + path, limit: 65_536) else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }
}
