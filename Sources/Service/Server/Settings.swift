import EbbProtocol
import Governor
import ModelFormat

/// The settings file: what the daemon may take, and what its clients may take of it. docs/settings.md lists the keys.
///
/// `{"memoryBudget": "25%", "memoryReserve": "1G", "maxConnections": 64}`
public struct Settings: Sendable, Equatable {
    public var policy: Policy
    public var limits = ServiceLimits()
    public var templateVariables = TemplateVariables()

    /// Bytes of a settings file at most.
    private static let limit = 64 << 10

    /// Bytes: some KV cache and the rooms of a step, of the smallest model.
    private static let leastBudget = 16 << 20

    /// Bytes of memory that this process may have: the machine's, or what a container leaves it.
    public static var machine: Int { MemoryLimit.now().bytes }

    /// Reads a file, once.
    /// - Throws: ``FormatError`` that names the file, the key, and what is possible.
    public init(path: String) throws {
        try self.init(SmallFile.read(path, limit: Self.limit), name: path, machine: Self.machine)
    }

    /// - Parameters:
    ///   - json: an object; a key that is left out has its default.
    ///   - name: the file's, for errors.
    ///   - machine: bytes of memory that percentages are of, and that no size may exceed.
    public init(
        _ json: [UInt8], name: String, machine: Int, policy: Policy = ServiceConfiguration.defaultPolicy
    ) throws {
        self.policy = policy
        var reader = try SettingsReader(json, name: name, machine: machine)
        // With less nothing can be served at all.
        try reader.size("memoryBudget", into: &self.policy.budget, min(Self.leastBudget, machine)...machine)
        try reader.size("memoryReserve", into: &self.policy.reserve, 0...machine)
        try reader.seconds("idleSeconds", into: &self.policy.idleTime, 0...1e9)
        try reader.seconds("calmSeconds", into: &self.policy.calmBeforeGrowth, 0...1e9)
        try reader.seconds("dwellSeconds", into: &self.policy.dwell, 0...1e9)
        try reader.count("maxConnections", into: &limits.maxConnections, 1...65_536)
        try reader.count("maxConnectionsPerUser", into: &limits.maxConnectionsPerUser, 1...65_536)
        try reader.count(
            "maxRequestsPerConnection", into: &limits.maxRequestsPerConnection, 1...EbbProtocol.maxInFlight)
        try reader.count("maxQueuedPerConnection", into: &limits.maxQueuedPerConnection, 1...EbbProtocol.maxInFlight)
        try reader.count("maxQueuedPerUser", into: &limits.maxQueuedPerUser, 1...1_000_000)
        try reader.count("maxQueued", into: &limits.maxQueued, 1...1_000_000)
        try reader.seconds("handshakeSeconds", into: &limits.handshakeSeconds, 0.1...3600)
        try reader.seconds("slowReaderSeconds", into: &limits.slowReaderSeconds, 0.1...3600)
        // A reply of the longest frame must find room.
        let frame = EbbProtocol.maxFrameBytes
        try reader.size("maxQueuedReplyBytes", into: &limits.maxQueuedReplyBytes, frame...max(frame, machine))
        try reader.size("maxTextBytes", into: &limits.maxTextBytes, 1024...frame)
        try reader.seconds("templateSeconds", into: &limits.templateSeconds, 0.01...60)
        try reader.count("textThreads", into: &limits.textThreads, 1...16)
        try reader.variables("templateVariables", into: &templateVariables)
        try reader.finish()
    }
}
