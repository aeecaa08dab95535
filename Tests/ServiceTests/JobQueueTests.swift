import Service
import TestKit
import Testing

@Suite("The order of texts and files that wait")
struct JobQueueTests {
    private func origin(
        _ uid: UInt32, _ connection: UInt64? = nil, _ priority: RequestPriority = .normal
    ) -> RequestOrigin {
        RequestOrigin(uid: uid, connection: connection ?? UInt64(uid), priority: priority)
    }

    private func order(_ queue: inout JobQueue<String>) -> String { queue.removeAll().joined() }

    @Test("A user with one job comes next, however many another has queued before")
    func users() {
        var queue = JobQueue<String>()
        for _ in 0..<32 { _ = queue.add("a", origin(1), cost: 100) }
        _ = queue.next()
        _ = queue.add("b", origin(2), cost: 100)
        #expect(queue.next() == "b")
        #expect(queue.count == 31)
    }

    @Test("Connections of one user take turns, and together have the user's share")
    func connections() {
        var queue = JobQueue<String>()
        for _ in 0..<4 {
            _ = queue.add("a", origin(1, 10), cost: 1)
            _ = queue.add("b", origin(1, 11), cost: 1)
            _ = queue.add("c", origin(2, 20), cost: 1)
        }
        #expect(order(&queue) == "acbcacbcabab")
    }

    @Test("Long jobs pay with longer waits: users get the same bytes, not the same number of jobs")
    func costs() {
        var queue = JobQueue<String>()
        for _ in 0..<4 { _ = queue.add("A", origin(1), cost: 10) }
        for _ in 0..<40 { _ = queue.add("b", origin(2), cost: 1) }
        let first = (0..<22).compactMap { _ in queue.next() }
        #expect(first.count { $0 == "A" } == 2)
    }

    @Test("Interactive comes first, background in what the others leave")
    func priorities() {
        var queue = JobQueue<String>()
        _ = queue.add("c", origin(1, 1, .background), cost: 1)
        _ = queue.add("b", origin(2, 2, .normal), cost: 1)
        _ = queue.add("a", origin(3, 3, .interactive), cost: 1)
        #expect(order(&queue) == "abc")
    }

    @Test("Interactive ones get four times what normal ones get, however many there are")
    func shares() {
        var queue = JobQueue<String>()
        for _ in 0..<1000 { _ = queue.add("a", origin(1, 1, .interactive), cost: 3) }
        for _ in 0..<1000 { _ = queue.add("b", origin(2, 2, .normal), cost: 3) }
        let first = (0..<500).compactMap { _ in queue.next() }
        #expect(first.count { $0 == "b" } == 100)
        // A crowd that has gone leaves no debt.
        _ = queue.removeAll()
        _ = queue.add("a", origin(1, 1, .interactive), cost: 1)
        _ = queue.add("b", origin(2, 2, .normal), cost: 1)
        #expect(order(&queue) == "ab")
    }

    @Test("Who comes back from a pause has no claim on the time that was away")
    func pause() {
        var queue = JobQueue<String>()
        _ = queue.add("b", origin(2), cost: 1)
        _ = queue.next()
        for _ in 0..<100 { _ = queue.add("a", origin(1), cost: 1) }
        for _ in 0..<50 { _ = queue.next() }
        for _ in 0..<10 { _ = queue.add("b", origin(2), cost: 1) }
        let next = (0..<10).compactMap { _ in queue.next() }
        #expect(next.count { $0 == "b" } == 5)
    }

    @Test("A job that is taken back never comes, and its number names no other")
    func remove() {
        var queue = JobQueue<String>()
        let a = queue.add("a", origin(1), cost: 1)
        _ = queue.add("b", origin(1), cost: 1)
        #expect(queue.remove(a) == "a")
        #expect(queue.remove(a) == nil)
        #expect(order(&queue) == "b")
    }

    @Test("While two users both have work, neither gets more than one job's cost ahead")
    func property() throws {
        var random = TestRandom(seed: 3)
        for _ in 0..<200 {
            var queue = JobQueue<(UInt32, Int)>()
            var waiting: [UInt32: Int] = [:]
            for _ in 0..<60 {
                let (uid, cost) = (UInt32.random(in: 1...2, using: &random), Int.random(in: 1...50, using: &random))
                let connection = UInt64(uid) * 10 + UInt64.random(in: 0...2, using: &random)
                _ = queue.add((uid, cost), origin(uid, connection), cost: cost)
                waiting[uid, default: 0] += 1
            }
            var served: [UInt32: Int] = [:]
            while (waiting[1] ?? 0) > 0, (waiting[2] ?? 0) > 0, let (uid, cost) = queue.next() {
                served[uid, default: 0] += cost
                waiting[uid, default: 0] -= 1
                #expect(abs((served[1] ?? 0) - (served[2] ?? 0)) <= 50)
            }
        }
    }
}
