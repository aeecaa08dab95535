/// Where the memory files of the process' own control group lie: version 2, or version 1 where that holds the memory
/// controller (https://docs.kernel.org/admin-guide/cgroup-v2.html, …/cgroup-v1/memory.html).
struct ControlGroupPlace: Sendable, Equatable {
    /// Where the hierarchy is mounted, and the group's folder in it.
    let mount: String
    let folder: String
    let isVersion2: Bool

    /// A group's files.
    static let usage1 = "memory.usage_in_bytes"
    static let usage2 = "memory.current"

    /// - Parameters:
    ///   - membership: /proc/self/cgroup.
    ///   - mounts: /proc/self/mountinfo.
    ///   - hasFile: whether there is a readable file of that path.
    /// - Returns: nil where no hierarchy with a memory controller can be seen.
    init?(membership: String, mounts: String, hasFile: (String) -> Bool) {
        // Of both versions at once, version 1 has the controller where it is mounted with it.
        for isVersion2 in [false, true] {
            guard let path = Self.path(membership, isVersion2: isVersion2) else { continue }
            let usage = isVersion2 ? Self.usage2 : Self.usage1
            for mount in Self.mounts(mounts, isVersion2: isVersion2) {
                var folder = mount.point + Self.relative(path, to: mount.root)
                // The path may be one that only the host can see, or that of a group without the controller: then what
                // is above it holds.
                while !hasFile("\(folder)/\(usage)"), folder.count > mount.point.count,
                    let slash = folder.lastIndex(of: "/")
                {
                    folder = String(folder[..<slash])
                }
                guard hasFile("\(folder)/\(usage)") else { continue }
                (self.mount, self.folder, self.isVersion2) = (mount.point, folder, isVersion2)
                return
            }
        }
        return nil
    }

    /// Folders of the group and of those above it, from the inside out.
    var folders: [String] {
        var found = [folder]
        while let last = found.last, last.count > mount.count, let slash = last.lastIndex(of: "/") {
            found.append(String(last[..<slash]))
        }
        return found
    }

    /// A folder's name as people know it: `/system.slice/ebbd.service`.
    func name(of folder: String) -> String {
        let name = folder.dropFirst(mount.count)
        return name.isEmpty ? "/" : String(name)
    }

    /// The group that a line of /proc/self/cgroup, `number:controllers:path`, names.
    private static func path(_ membership: String, isVersion2: Bool) -> Substring? {
        for line in membership.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3, parts[2].hasPrefix("/") else { continue }
            let isWanted =
                isVersion2
                ? parts[0] == "0" && parts[1].isEmpty : parts[1].split(separator: ",").contains("memory")
            if isWanted { return parts[2] }
        }
        return nil
    }

    /// Mounts of a hierarchy: `36 35 0:30 ROOT POINT options - cgroup source rw,memory`. ROOT is the group that is
    /// mounted: not `/` in many containers.
    private static func mounts(_ text: String, isVersion2: Bool) -> [(root: String, point: String)] {
        text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            guard let dash = fields.firstIndex(of: "-"), dash >= 5, fields.count >= dash + 4 else { return nil }
            let isWanted =
                isVersion2
                ? fields[dash + 1] == "cgroup2"
                : fields[dash + 1] == "cgroup" && fields[dash + 3].split(separator: ",").contains("memory")
            return isWanted ? (unescaped(fields[3]), unescaped(fields[4])) : nil
        }
    }

    /// The path below a mount of `root`; nothing where it lies elsewhere, as `/../other` does.
    private static func relative(_ path: Substring, to root: String) -> Substring {
        if path == "/" || path.contains("..") { return "" }
        if root == "/" { return path }
        return path.hasPrefix(root + "/") ? path.dropFirst(root.count) : ""
    }

    /// mountinfo writes blanks and the like as `\040`.
    private static func unescaped(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = field.utf8[...]
        while let first = rest.popFirst() {
            let digits = rest.prefix(3)
            if first == UInt8(ascii: "\\"), digits.count == 3,
                let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(first)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
