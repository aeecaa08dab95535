/// Jobs in the order in which they are to run: interactive ones get four times what normal ones get, background ones what
/// these leave; within one priority users take turns, then their connections, then first come, first served. A turn is as
/// long as its job costs. Pure.
package struct JobQueue<Job> {
    package typealias Number = UInt64

    fileprivate struct Entry {
        let number: Number
        let cost: Int
        let job: Job
    }

    fileprivate struct User {
        var turns = FairTurns<UInt64>()
        var connections: [UInt64: [Entry]] = [:]
    }

    private struct Class {
        var turns = FairTurns<UInt32>()
        var users: [UInt32: User] = [:]
    }

    /// What a job's cost counts for its priority, by ``RequestPriority``; background ones have no share.
    private static var weights: [Int] { [1, FairQueue.interactiveWeight] }
    /// What these have had of late: who has had less is next.
    private var served = [0, 0]
    private var classes = [Class](repeating: Class(), count: RequestPriority.allCases.count)
    private var origins: [Number: RequestOrigin] = [:]
    private var last: Number = 0

    package init() {}

    package var count: Int { origins.count }

    /// - Parameter cost: in any unit, the same for all jobs.
    /// - Returns: the job's number, to ``remove(_:)`` it.
    package mutating func add(_ job: Job, _ origin: RequestOrigin, cost: Int) -> Number {
        last &+= 1
        origins[last] = origin
        let entry = Entry(number: last, cost: cost, job: job)
        let index = origin.priority.rawValue
        // Who comes back from a pause has no claim on what it did not use.
        if served.indices.contains(index), classes[index].users.isEmpty {
            if sharing.isEmpty { served = [0, 0] }
            served[index] = served.max() ?? 0
        }
        classes[index].turns.join(origin.uid)
        classes[index].users[origin.uid, default: User()].add(entry, origin.connection)
        return last
    }

    /// Priorities with a share that have work.
    private var sharing: [Int] { served.indices.filter { !classes[$0].users.isEmpty } }

    /// Takes the next job out.
    package mutating func next() -> Job? {
        let index = sharing.min { served[$0] < served[$1] } ?? RequestPriority.background.rawValue
        guard let uid = classes[index].turns.next, let entry = classes[index].users[uid]?.next() else { return nil }
        origins[entry.number] = nil
        if served.indices.contains(index) { served[index] &+= max(1, entry.cost) &* Self.weights[index] }
        classes[index].turns.serve(uid, cost: entry.cost)
        forgetIdle(uid, index)
        return entry.job
    }

    /// Takes a job out before its turn; nil where it has had it.
    package mutating func remove(_ number: Number) -> Job? {
        guard let origin = origins.removeValue(forKey: number) else { return nil }
        let index = origin.priority.rawValue
        let job = classes[index].users[origin.uid]?.remove(number, origin.connection)
        forgetIdle(origin.uid, index)
        return job
    }

    private mutating func forgetIdle(_ uid: UInt32, _ index: Int) {
        guard classes[index].users[uid]?.connections.isEmpty ?? true else { return }
        classes[index].users[uid] = nil
        classes[index].turns.leave(uid)
    }

    /// Takes all out.
    package mutating func removeAll() -> [Job] {
        var jobs: [Job] = []
        while let job = next() { jobs.append(job) }
        return jobs
    }
}

extension JobQueue.User {
    fileprivate mutating func add(_ entry: JobQueue.Entry, _ connection: UInt64) {
        turns.join(connection)
        connections[connection, default: []].append(entry)
    }

    fileprivate mutating func next() -> JobQueue.Entry? {
        guard let connection = turns.next, let entry = connections[connection]?.first else { return nil }
        turns.serve(connection, cost: entry.cost)
        _ = remove(entry.number, connection)
        return entry
    }

    fileprivate mutating func remove(_ number: JobQueue.Number, _ connection: UInt64) -> Job? {
        guard let index = connections[connection]?.firstIndex(where: { $0.number == number }) else { return nil }
        let job = connections[connection]?.remove(at: index).job
        if connections[connection]?.isEmpty ?? true {
            connections[connection] = nil
            turns.leave(connection)
        }
        return job
    }
}
