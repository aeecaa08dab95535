/// The sources that this system has.
public enum PressureSources {
    /// PSI of the system and of the own control group, systemd's protocol, the group's limits, and MemAvailable: each
    /// where it can be had.
    public static func ofThisSystem() -> [any PressureSource] {
        var sources: [any PressureSource] = []
        if let psi = PSISource(availableShare: { SystemMemory.now()?.availableShare }) { sources.append(psi) }
        let place = CgroupMemory.Place.own()
        if let path = place?.pressureFile, let psi = PSISource(path: path, what: "own cgroup") { sources.append(psi) }
        if let systemd = SystemdPressureSource() { sources.append(systemd) }
        if let place { sources.append(CgroupSource(place)) }
        sources.append(AvailableMemorySource())
        return sources
    }

    /// Bytes that Ebb could take now: what the system has, within what the own control group may have; 0 where nothing
    /// can be read.
    public static func availableBytes() -> Int {
        let system = SystemMemory.now()?.available ?? 0
        guard let place = CgroupMemory.Place.own(), let headroom = CgroupMemory.now(place)?.headroom else {
            return system
        }
        return min(system, headroom)
    }
}
