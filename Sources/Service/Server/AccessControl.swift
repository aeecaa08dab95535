import Glibc

/// Who may do what. Whoever can open the socket may infer; control needs root, the daemon's user or the admin group.
public struct AccessControl: Sendable {
    private let ownUser: UInt32
    private let adminGroup: UInt32?

    /// - Throws: ``ServiceError`` for a group that does not exist.
    public init(adminGroup: String? = nil) throws {
        ownUser = geteuid()
        self.adminGroup = try adminGroup.map(Self.number)
    }

    /// A member is who was one when it connected: the kernel knows, and no user database is asked.
    func mayControl(_ peer: Peer) -> Bool {
        if peer.uid == 0 || peer.uid == ownUser { return true }
        guard let adminGroup else { return false }
        return peer.gid == adminGroup || peer.groups.contains(adminGroup)
    }

    private static func number(ofGroup name: String) throws -> UInt32 {
        // A group's entry holds the names of its members.
        var buffer = [CChar](repeating: 0, count: 1 << 20)
        var entry = group()
        var found: UnsafeMutablePointer<group>?
        let code = getgrnam_r(name, &entry, &buffer, buffer.count, &found)
        guard code == 0 else {
            throw ServiceError(.internal, "cannot look up the group \(name): \(String(cString: strerror(code)))")
        }
        guard found != nil else { throw ServiceError(.badRequest, "there is no group named \(name)") }
        return entry.gr_gid
    }
}
