/// The sources that this system has.
public enum PressureSources {
    /// PSI of the system and of the own control group, systemd's protocol, the group's limits, and MemAvailable: each
    /// where it can be had.
    public static func ofThisSystem() -> [any PressureSource] {
        var sources: [any PressureSource] = []
        if let psi = PSISource(availableShare: { SystemMemory.now()?.availableShare }) { sources.append(psi) }
        let group = ControlGroup.own
        if let path = group.pressureFile, let psi = PSISource(path: path, what: "own cgroup") { sources.append(psi) }
        if let systemd = SystemdPressureSource() { sources.append(systemd) }
        if group.read() != .none { sources.append(ControlGroupSource(group)) }
        sources.append(AvailableMemorySource())
        return sources
    }

    /// Bytes that Ebb could take now.
    public static func availableBytes() -> Int {
        available(system: SystemMemory.now(), group: ControlGroup.own.read(), ProcessLimits.now())
    }

    /// What the system has, within what the own control group may have and what may be mapped; 0 where one of them
    /// cannot be read.
    public static func available(system: SystemMemory?, group: ControlGroup.Reading, _ limits: ProcessLimits) -> Int {
        let headroom: Int
        switch group {
        case .none: headroom = .max
        case .unknown: headroom = 0
        case .memory(let memory): headroom = memory.headroom ?? .max
        }
        // Pages of files count as available in the other figures, whoever has them mapped: so they do in this one.
        let mappable = limits.left.map { $0 + limits.file } ?? .max
        return min(system?.available ?? 0, headroom, mappable)
    }
}
