/// The sources that this system has.
public enum PressureSources {
    /// PSI where the kernel offers it, and MemAvailable.
    public static func ofThisSystem() -> [any PressureSource] {
        var sources: [any PressureSource] = []
        if let psi = PSISource() { sources.append(psi) }
        sources.append(AvailableMemorySource())
        return sources
    }
}
