/// Whether something that takes memory may begin, decided before it takes any. Pure.
public struct Admission: Sendable {
    /// Bytes that the system, and the own control group, could give now.
    public var available: Int
    /// Bytes that Ebb would give up for it: expansions that are not pinned, caches of prefixes.
    public var reclaimable: Int
    /// Anonymous bytes of Ebb's now.
    public var inUse: Int
    public var policy: Policy
    public var level: PressureLevel
    /// Who says that the level is what it is.
    public var reason: String

    public init(
        available: Int, reclaimable: Int, inUse: Int, policy: Policy, level: PressureLevel, reason: String = ""
    ) {
        self.available = available
        self.reclaimable = reclaimable
        self.inUse = inUse
        self.policy = policy
        self.level = level
        self.reason = reason
    }

    public enum Verdict: Sendable, Equatable {
        case admitted
        /// What is needed, what there is, and what would help: a sentence; and whether it would be refused with all else
        /// gone, too.
        case refused(String, isLasting: Bool)
    }

    /// - Parameters:
    ///   - anonymous: bytes that it will allocate.
    ///   - mapped: bytes of a file that it will read again and again: they must fit beside everything else, or every
    ///     token reads them from the disk.
    public func verdict(_ what: String, anonymous: Int, mapped: Int = 0) -> Verdict {
        let room = max(0, available + reclaimable - policy.reserve / 2)
        let need = anonymous + mapped
        if need > room {
            return .refused(
                "\(what) needs about \(Self.mib(need)) (\(Self.mib(anonymous)) of its own, \(Self.mib(mapped)) of the file); "
                    + "\(Self.mib(room)) can be had while \(Self.mib(policy.reserve / 2)) stay with the system. Close other "
                    + "programs, unload a model, or ask for less context", isLasting: false)
        }
        if anonymous > policy.budget {
            return .refused(
                "\(what) needs about \(Self.mib(anonymous)); Ebb's memory budget is \(Self.mib(policy.budget)) in all. Raise "
                    + "memoryBudget in the settings, or ask for less context", isLasting: true)
        }
        let allowed = max(0, policy.budget - inUse + reclaimable)
        if anonymous > allowed {
            return .refused(
                "\(what) needs about \(Self.mib(anonymous)); of Ebb's memory budget of \(Self.mib(policy.budget)) "
                    + "\(Self.mib(allowed)) are left. Raise memoryBudget in the settings, or unload a model",
                isLasting: false)
        }
        return .admitted
    }

    /// Whether a model may be loaded: also not while memory is critically scarce.
    public func verdictOnLoad(_ name: String, anonymous: Int, mapped: Int) -> Verdict {
        if level == .critical {
            let why = reason.isEmpty ? "" : " (\(reason))"
            return .refused(
                "memory is critically scarce\(why): \(name) would need about \(Self.mib(anonymous + mapped)), "
                    + "\(Self.mib(available)) are available. Close other programs; it can be loaded once the level falls",
                isLasting: false)
        }
        return verdict("loading \(name)", anonymous: anonymous, mapped: mapped)
    }

    /// Bytes as a sentence has them: whole MiB, what has begun counts.
    package static func mib(_ bytes: Int) -> String { "\((bytes + (1 << 20) - 1) >> 20) MiB" }
}
