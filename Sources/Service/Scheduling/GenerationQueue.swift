/// A generation that waits for memory.
struct QueuedGeneration {
    let member: FairQueue.Member
    let request: GenerationRequest
    let handle: GenerationHandle
    /// Tokens that its KV cache will hold at most, and what they take alone.
    let goal, bytes: Int
}

/// Generations that have been accepted and wait for memory, in fair order. Who came first of one connection goes first.
struct GenerationQueue {
    private(set) var entries: [QueuedGeneration] = []
    private var order = FairQueue(quantum: 512)
    /// Whose turn it is, until it has begun or gone: a turn is not lost by waiting.
    private var turn: UInt64?

    mutating func append(_ entry: QueuedGeneration) { entries.append(entry) }

    /// Whose turn it is.
    /// - Parameter mayBegin: false for those that have to wait for others of their own.
    mutating func first(where mayBegin: (QueuedGeneration) -> Bool) -> QueuedGeneration? {
        let ready = entries.filter(mayBegin)
        if let turn, let entry = ready.first(where: { $0.member.id == turn }) { return entry }
        let member = order.next(ready.map(\.member))
        turn = member?.id
        return ready.first { $0.member.id == member?.id }
    }

    /// Takes one out that has begun.
    /// - Parameter cost: tokens that it may take.
    mutating func remove(_ entry: QueuedGeneration, cost: Int) {
        order.charge(entry.member, cost)
        removeAll { $0.member.id == entry.member.id }
    }

    mutating func removeAll(where isGone: (QueuedGeneration) -> Bool) {
        guard entries.contains(where: isGone) else { return }
        entries.removeAll(where: isGone)
        order.keep(entries.map(\.member))
        if let turn, !entries.contains(where: { $0.member.id == turn }) { self.turn = nil }
    }
}
