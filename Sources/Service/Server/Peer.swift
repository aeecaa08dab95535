import CEbbSystem

/// Who is at the other end of a connection, from the kernel, as it was when it connected.
public struct Peer: Sendable, CustomStringConvertible {
    public let pid: Int32
    public let uid: UInt32
    public let gid: UInt32
    /// Supplementary groups; empty where the kernel does not say.
    public let groups: [UInt32]

    /// Groups of a process at most (NGROUPS_MAX).
    private static let mostGroups = 65_536

    /// - Parameter descriptor: of a connected Unix socket.
    /// - Throws: ``ServiceError``.
    init(of descriptor: Int32) throws {
        var peer = ebb_peer()
        guard ebb_peer_of(descriptor, &peer) == 0 else {
            throw ServiceError(.internal, "the kernel does not say who has connected")
        }
        (pid, uid, gid) = (peer.pid, peer.uid, peer.gid)
        groups = Self.groups(descriptor)
    }

    private static func groups(_ descriptor: Int32) -> [UInt32] {
        for capacity in [64, mostGroups] {
            var groups = [UInt32](repeating: 0, count: capacity)
            let count = ebb_peer_groups(descriptor, &groups, Int32(capacity))
            if count >= 0 { return Array(groups.prefix(Int(count))) }
        }
        return []
    }

    public var description: String { "pid \(pid), uid \(uid)" }
}
