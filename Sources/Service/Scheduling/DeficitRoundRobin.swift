/// Deficit round robin (Shreedhar & Varghese 1996): members take turns, each with a quantum of credit, and pay for what
/// they got afterwards. Who got more than its credit waits until others have had as much. A value; it keeps no clock.
struct DeficitRoundRobin<Member: Hashable> {
    private var ring: [Member] = []
    private var credit: [Member: Int] = [:]

    /// Whose turn it is.
    /// - Parameters:
    ///   - wanting: those that want something now, without repetitions; new ones come first, once.
    ///   - quantum: what a member may have at a turn, at least 1.
    /// - Returns: nil where nobody wants anything.
    mutating func next(among wanting: [Member], quantum: (Member) -> Int) -> Member? {
        let wanted = Set(wanting)
        guard !wanted.isEmpty else { return nil }
        let new = wanting.filter { credit[$0] == nil }
        for member in new { credit[member] = max(1, quantum(member)) }
        ring.insert(contentsOf: new, at: 0)
        // A debt of n quanta takes n rounds.
        while true {
            guard let index = ring.firstIndex(where: wanted.contains) else { return nil }
            let member = ring[index]
            if credit[member, default: 0] > 0 { return member }
            credit[member, default: 0] += max(1, quantum(member))
            ring.remove(at: index)
            ring.append(member)
        }
    }

    /// Has a member pay for what it got.
    mutating func charge(_ member: Member, _ cost: Int) { credit[member]? -= max(0, cost) }

    /// Forgets all but these.
    mutating func keep(_ members: Set<Member>) {
        guard credit.count > members.count || !credit.keys.allSatisfy(members.contains) else { return }
        ring.removeAll { !members.contains($0) }
        credit = credit.filter { members.contains($0.key) }
    }
}
