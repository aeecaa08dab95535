import TestKit
import Testing

@testable import Service

@Suite("The fair order of requests")
struct FairQueueTests {
    private func member(
        _ id: UInt64, uid: UInt32 = 1, connection: UInt64 = 1, _ priority: RequestPriority = .normal
    ) -> FairQueue.Member {
        FairQueue.Member(id: id, origin: RequestOrigin(uid: uid, connection: connection, priority: priority))
    }

    /// What each gets of so many turns at a cost of one.
    private func shares(_ members: [FairQueue.Member], turns: Int) -> [UInt64: Int] {
        var queue = FairQueue(quantum: 1)
        var shares: [UInt64: Int] = [:]
        for _ in 0..<turns {
            guard let next = queue.next(members) else { break }
            queue.charge(next, 1)
            shares[next.id, default: 0] += 1
        }
        return shares
    }

    @Test("A connection with many requests gets no more than one with a single request")
    func connections() {
        let many = (1...32).map { member($0, connection: 1) }
        let shares = shares(many + [member(33, connection: 2)], turns: 640)
        #expect(shares[33] == 320)
        #expect(many.allSatisfy { shares[$0.id] == 10 })
    }

    @Test("A user with many connections gets no more than one with a single connection")
    func users() {
        let many = (1...10).map { member($0, uid: 1, connection: $0) }
        let shares = shares(many + [member(11, uid: 2, connection: 11)], turns: 200)
        #expect(shares[11] == 100)
        #expect(many.allSatisfy { shares[$0.id] == 10 })
    }

    @Test("Interactive requests get four times what normal ones get, and background ones what these leave")
    func priorities() {
        let normal = member(1), urgent = member(2, connection: 2, .interactive)
        let idle = member(3, connection: 3, .background)
        #expect(shares([normal, urgent, idle], turns: 500) == [1: 100, 2: 400])
        #expect(shares([idle], turns: 7) == [3: 7])
    }

    @Test("Whoever is new comes first, once")
    func newcomers() {
        var queue = FairQueue(quantum: 32)
        let old = (1...5).map { member($0, connection: $0) }
        for _ in 0..<50 {
            guard let next = queue.next(old) else { return }
            queue.charge(next, 32)
        }
        let new = member(6, connection: 6)
        #expect(queue.next(old + [new])?.id == 6)
        queue.charge(new, 32)
        #expect(queue.next(old + [new])?.id != 6)
    }

    @Test("Whatever the costs, those who always want something get the same to within a turn and a piece")
    func property() {
        var random = TestRandom(seed: 3)
        for _ in 0..<60 {
            let members = (0..<UInt64.random(in: 1...40, using: &random)).map { id in
                let uid = UInt32.random(in: 1...4, using: &random)
                return member(id, uid: uid, connection: UInt64(uid) * 10 + .random(in: 0...3, using: &random))
            }
            let quantum = Int.random(in: 1...64, using: &random)
            let most = Int.random(in: 1...128, using: &random)
            var queue = FairQueue(quantum: quantum)
            var users: [UInt32: Int] = [:]
            for _ in 0..<2000 {
                guard let next = queue.next(members) else { break }
                let cost = Int.random(in: 1...most, using: &random)
                queue.charge(next, cost)
                users[next.origin.uid, default: 0] += cost
            }
            #expect(users.count == Set(members.map(\.origin.uid)).count)
            let (least, largest) = (users.values.min() ?? 0, users.values.max() ?? 0)
            #expect(largest - least <= 2 * (quantum + most))
        }
    }

    @Test("Requests that are gone are forgotten, and the others keep their turns")
    func leaving() {
        var queue = FairQueue(quantum: 1)
        let all = (1...3).map { member($0, connection: $0) }
        for _ in 0..<7 {
            guard let next = queue.next(all) else { return }
            queue.charge(next, 1)
        }
        queue.keep(Array(all.dropFirst()))
        var shares: [UInt64: Int] = [:]
        for _ in 0..<20 {
            guard let next = queue.next(Array(all.dropFirst())) else { return }
            queue.charge(next, 1)
            shares[next.id, default: 0] += 1
        }
        #expect(shares == [2: 10, 3: 10])
        #expect(queue.next([]) == nil)
    }
}

@Suite("What goes into a step")
struct StepPlanTests {
    private func candidate(
        _ id: UInt64, connection: UInt64, uid: UInt32 = 1, prompt: Int = 0, evenly: Bool = false,
        _ priority: RequestPriority = .normal
    ) -> StepPlan.Candidate {
        StepPlan.Candidate(
            member: FairQueue.Member(
                id: id, origin: RequestOrigin(uid: uid, connection: connection, priority: priority)),
            prompt: prompt, isCutEvenly: evenly)
    }

    @Test("Beside 32 generations of one connection, another's next token is in every step, and steps are short")
    func manyGenerations() {
        var plan = StepPlan()
        let all = (1...32).map { candidate($0, connection: 1) } + [candidate(33, connection: 2)]
        var counts: [UInt64: Int] = [:]
        for _ in 0..<64 {
            let shares = plan.next(all)
            #expect(shares.count == StepPlan.sharedDecodeRows)
            for share in shares { counts[all[share.candidate].member.id, default: 0] += share.rows }
        }
        #expect(counts[33] == 64)
        #expect((1...32).allSatisfy { counts[$0] == 10 })
    }

    @Test("Clients with a generation each are all in every step")
    func batching() {
        var plan = StepPlan()
        let all = (1...20).map { candidate($0, connection: $0) }
        #expect(plan.next(all).count == 20)
    }

    @Test("A short prompt does not wait behind long ones")
    func shortPrompt() {
        var plan = StepPlan()
        let long = (1...8).map { candidate($0, connection: 1, prompt: 3500) }
        for _ in 0..<10 { _ = plan.next(long) }
        let shares = plan.next(long + [candidate(9, connection: 2, prompt: 25)])
        #expect(shares.first == StepPlan.Share(candidate: 8, rows: 25))
        #expect(shares.reduce(0) { $0 + $1.rows } <= 64)
    }

    @Test("Beside another's next tokens, prompts get some rows a step, not all")
    func promptsBesideTokens() {
        var plan = StepPlan()
        let all = [candidate(1, connection: 1, prompt: 100_000), candidate(2, connection: 2)]
        var prompt = 0
        for _ in 0..<100 {
            let shares = plan.next(all)
            #expect(shares.contains(StepPlan.Share(candidate: 1, rows: 1)))
            prompt += shares.filter { $0.candidate == 0 }.reduce(0) { $0 + $1.rows }
        }
        #expect((700...900).contains(prompt))
    }

    @Test("Background requests run when there are no others")
    func background() {
        var plan = StepPlan()
        let idle = candidate(1, connection: 1, .background)
        #expect(plan.next([idle, candidate(2, connection: 2)]) == [StepPlan.Share(candidate: 1, rows: 1)])
        #expect(plan.next([idle]) == [StepPlan.Share(candidate: 0, rows: 1)])
    }

    @Test("Whatever comes, prompts are run to their ends, those of reproducible requests cut at multiples of a piece")
    func property() {
        var random = TestRandom(seed: 5)
        for _ in 0..<100 {
            var plan = StepPlan()
            var left = (0..<Int.random(in: 1...12, using: &random)).map { _ in Int.random(in: 0...300, using: &random) }
            let whole = left
            let evenly = left.map { _ in Bool.random(using: &random) }
            let connections = left.map { _ in UInt64.random(in: 1...4, using: &random) }
            var steps = 0
            while left.contains(where: { $0 > 0 }), steps < 5000 {
                steps += 1
                let shares = plan.next(
                    left.indices.map {
                        candidate(UInt64($0), connection: connections[$0], prompt: left[$0], evenly: evenly[$0])
                    })
                for share in shares where left[share.candidate] > 0 {
                    let index = share.candidate
                    if evenly[index] {
                        #expect((whole[index] - left[index]) % StepPlan.piece == 0)
                        #expect(share.rows == min(StepPlan.piece, left[index]))
                    }
                    left[index] -= share.rows
                    #expect(left[index] >= 0)
                }
            }
            #expect(left.allSatisfy { $0 == 0 })
        }
    }
}

@Suite("Waiting requests")
struct WaitingTests {
    private func entry(_ id: UInt64, connection: UInt64) -> QueuedGeneration {
        let request = HostedTestModel.request([1], tokens: 1, connection: connection)
        return QueuedGeneration(
            member: FairQueue.Member(id: id, origin: request.origin), request: request, handle: GenerationHandle(),
            goal: 512, bytes: 1)
    }

    @Test("Connections take turns; of one the oldest goes first, and whose turn it is keeps it")
    func order() {
        var queue = GenerationQueue()
        for id in 1...4 { queue.append(entry(UInt64(id), connection: 1)) }
        #expect(queue.first { _ in true }?.member.id == 1)
        queue.append(entry(5, connection: 2))
        #expect(queue.first { _ in true }?.member.id == 1)
        var seen: [UInt64] = []
        while let next = queue.first(where: { _ in true }) {
            seen.append(next.member.id)
            queue.remove(next, cost: next.goal)
        }
        #expect(seen == [1, 5, 2, 3, 4])
    }

    @Test("Queues are bounded for all, for a user and for a connection, and the refusal says which is full")
    func limits() throws {
        var limits = ServiceLimits()
        (limits.maxQueued, limits.maxQueuedPerUser, limits.maxQueuedPerConnection) = (6, 4, 2)
        let queue = QueueLimits(limits)
        func origin(_ uid: UInt32, _ connection: UInt64) -> RequestOrigin {
            RequestOrigin(uid: uid, connection: connection)
        }
        func refusal(_ waiting: [RequestOrigin]) -> ServiceError? {
            do { try queue.demandRoom(for: origin(1, 1), among: waiting) } catch { return error as? ServiceError }
            return nil
        }
        #expect(refusal([origin(1, 1), origin(1, 2), origin(1, 3)]) == nil)
        let connection = refusal([origin(1, 1), origin(1, 1)])
        #expect(connection?.code == .overloaded && connection?.description.contains("connection") == true)
        #expect(connection?.retryAfter != nil)
        #expect(refusal((2...5).map { origin(1, $0) })?.description.contains("uid 1") == true)
        #expect(refusal((2...7).map { origin(UInt32($0), $0) })?.description.contains("6 requests") == true)
    }
}
