/// Orders requests fairly: priorities first, then users, their connections, and their requests take turns. A value that
/// knows neither models nor clocks.
///
/// Interactive requests get four times what normal ones get; background ones only what these leave.
struct FairQueue {
    /// Who asks, as the order sees it.
    struct Member: Hashable {
        let id: UInt64
        let origin: RequestOrigin
    }

    private struct User: Hashable {
        let priority: RequestPriority
        let uid: UInt32
    }
    private struct Connection: Hashable {
        let user: User
        let number: UInt64
    }

    /// What a turn is worth, in the unit of the costs.
    let quantum: Int
    /// What interactive requests get for each of the others'.
    static let interactiveWeight = 4

    private var priorities = DeficitRoundRobin<RequestPriority>()
    private var users: [RequestPriority: DeficitRoundRobin<User>] = [:]
    private var connections: [User: DeficitRoundRobin<Connection>] = [:]
    private var requests: [Connection: DeficitRoundRobin<UInt64>] = [:]

    init(quantum: Int) { self.quantum = max(1, quantum) }

    /// Whose turn it is among those that want something now; nil where nobody does.
    mutating func next(_ wanting: [Member]) -> Member? {
        let quantum = quantum
        var left = wanting.filter { $0.origin.priority != .background }
        if left.isEmpty { left = wanting }
        guard
            let priority = priorities.next(
                among: Self.unique(left) { $0.origin.priority },
                quantum: { $0 == .interactive ? quantum * Self.interactiveWeight : quantum })
        else { return nil }
        left.removeAll { $0.origin.priority != priority }
        guard
            let user = users[priority, default: DeficitRoundRobin()].next(
                among: Self.unique(left, Self.user), quantum: { _ in quantum })
        else { return nil }
        left.removeAll { Self.user($0) != user }
        guard
            let connection = connections[user, default: DeficitRoundRobin()].next(
                among: Self.unique(left, Self.connection), quantum: { _ in quantum })
        else { return nil }
        left.removeAll { Self.connection($0) != connection }
        // Requests of one connection in the order of their coming: the first in the list are the oldest.
        let id = requests[connection, default: DeficitRoundRobin()].next(
            among: left.map(\.id), quantum: { _ in quantum })
        return left.first { $0.id == id }
    }

    /// Has a request pay for what it got; its connection, its user and its priority pay with it.
    mutating func charge(_ member: Member, _ cost: Int) {
        let (user, connection) = (Self.user(member), Self.connection(member))
        priorities.charge(member.origin.priority, cost)
        users[member.origin.priority]?.charge(user, cost)
        connections[user]?.charge(connection, cost)
        requests[connection]?.charge(member.id, cost)
    }

    /// Forgets all but these: requests that have ended.
    mutating func keep(_ members: [Member]) {
        let priorityNames = Set(members.map(\.origin.priority))
        let userNames = Set(members.map(Self.user))
        let connectionNames = Set(members.map(Self.connection))
        priorities.keep(priorityNames)
        users = users.filter { priorityNames.contains($0.key) }
        for priority in users.keys { users[priority]?.keep(userNames) }
        connections = connections.filter { userNames.contains($0.key) }
        for user in connections.keys { connections[user]?.keep(connectionNames) }
        requests = requests.filter { connectionNames.contains($0.key) }
        let ids = Set(members.map(\.id))
        for connection in requests.keys { requests[connection]?.keep(ids) }
    }

    private static func user(_ member: Member) -> User {
        User(priority: member.origin.priority, uid: member.origin.uid)
    }

    private static func connection(_ member: Member) -> Connection {
        Connection(user: user(member), number: member.origin.connection)
    }

    private static func unique<Name: Hashable>(_ members: [Member], _ name: (Member) -> Name) -> [Name] {
        var seen: Set<Name> = []
        return members.map(name).filter { seen.insert($0).inserted }
    }
}
