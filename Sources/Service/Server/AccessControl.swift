import CEbbSystem
import Glibc

/// Who is at the other end of a connection, from the kernel.
public struct Peer: Sendable, CustomStringConvertible {
    public let pid: Int32
    public let uid: UInt32
    public let gid: UInt32

    init(_ peer: ebb_peer) { (pid, uid, gid) = (peer.pid, peer.uid, peer.gid) }

    public var description: String { "pid \(pid), uid \(uid)" }
}

/// Who may do what. Whoever can open the socket may infer; control needs root, the daemon's user or the admin group.
public struct AccessControl: Sendable {
    private let ownUser: UInt32
    private let adminGroup: UInt32?

    /// - Throws: ``ServiceError`` for a group that does not exist.
    public init(adminGroup: String? = nil) throws {
        ownUser = geteuid()
        guard let adminGroup else {
            self.adminGroup = nil
            return
        }
        guard let entry = getgrnam(adminGroup) else {
            throw ServiceError(.badRequest, "there is no group named \(adminGroup)")
        }
        self.adminGroup = entry.pointee.gr_gid
    }

    func mayControl(_ peer: Peer) -> Bool {
        if peer.uid == 0 || peer.uid == ownUser { return true }
        guard let adminGroup else { return false }
        return peer.gid == adminGroup || Self.groups(of: peer).contains(adminGroup)
    }

    private static func groups(of peer: Peer) -> [UInt32] {
        guard let entry = getpwuid(peer.uid) else { return [] }
        var groups = [gid_t](repeating: 0, count: 256)
        var count = Int32(groups.count)
        guard getgrouplist(entry.pointee.pw_name, peer.gid, &groups, &count) >= 0 else { return [] }
        return Array(groups.prefix(Int(count)))
    }
}
