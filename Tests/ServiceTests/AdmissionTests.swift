import Engine
import TestKit
import Testing

@testable import Service

@Suite("Admission")
struct AdmissionTests {
    private typealias Request = (handle: GenerationHandle, isCancelled: Bool)

    private func refusal(_ model: HostedTestModel, _ request: GenerationRequest) -> ServiceError? {
        do { try model.hosted.submit(request, GenerationHandle()) {} } catch { return error as? ServiceError }
        return nil
    }

    @Test(
        "Whatever is accepted ends well: prefixes, windows, forks, int8 blocks, cancellations, little memory",
        arguments: HostedTestModel.Kind.allCases, [UInt64](1...6))
    func everythingEnds(kind: HostedTestModel.Kind, seed: UInt64) async throws {
        var random = TestRandom(seed: seed)
        let block = try HostedTestModel(kind).hosted.decoder.kvBytes(tokens: 256)
        let model = try HostedTestModel(
            kind, sequences: 2, room: seed % 2 == 0 ? 1 << 40 : block * 5 / 4, prefixBytes: block)
        let hosted = model.hosted
        let beginnings = (0..<3).map { _ in (0..<120).map { _ in Int32.random(in: 3..<250, using: &random) } }
        var requests: [Request] = []
        for turn in 0..<700 {
            if turn < 500, Int.random(in: 0..<12, using: &random) == 0 {
                let beginning = beginnings[Int.random(in: 0..<3, using: &random)]
                let own = (0..<Int.random(in: 1...60, using: &random)).map { _ in
                    Int32.random(in: 3..<250, using: &random)
                }
                var request = HostedTestModel.request(
                    Array(beginning.prefix(Int.random(in: 0...120, using: &random))) + own,
                    tokens: Bool.random(using: &random) ? nil : Int.random(in: 1...60, using: &random),
                    uid: .random(in: 1...2, using: &random), connection: .random(in: 1...3, using: &random),
                    seed: Bool.random(using: &random) ? 1 : nil)
                request.sharesPrefix = Bool.random(using: &random)
                let handle = GenerationHandle()
                try hosted.submit(request, handle) {}
                requests.append((handle, false))
            }
            if Int.random(in: 0..<3, using: &random) == 0 {
                _ = hosted.compactKV(blocks: Int.random(in: 0...20, using: &random))
            }
            if Int.random(in: 0..<40, using: &random) == 0 { _ = hosted.dropPrefixes() }
            if !requests.isEmpty, Int.random(in: 0..<40, using: &random) == 0 {
                let index = requests.indices.randomElement(using: &random) ?? 0
                requests[index].handle.cancel()
                requests[index].isCancelled = true
            }
            model.turn()
        }
        model.runAll()
        for request in requests {
            let answer = await request.handle.answer()
            #expect(answer.summary != nil || request.isCancelled, "\(answer.error?.description ?? "")")
        }
        #expect(requests.count > 20 && hosted.activeRequests == 0)
        _ = hosted.dropPrefixes()
        #expect(hosted.decoder.kvPool.usedBlocks == 0)
        #expect(model.ledger.free == model.ledger.room)
    }

    @Test("Of many requests that may take a whole context all end, some after they have waited")
    func manyWholeContexts() async throws {
        let model = try HostedTestModel(sequences: 4)
        let handles = (0..<40).map { _ in GenerationHandle() }
        for handle in handles { try model.hosted.submit(HostedTestModel.request([5], tokens: nil), handle) {} }
        // One connection leaves a quarter to others.
        #expect(model.hosted.waiting.count == 37)
        model.runAll()
        for handle in handles { #expect(await handle.answer().summary?.generatedTokens ?? 0 > 0) }
    }

    @Test("Who comes next finds room beside a connection that would take all of it")
    func shares() async throws {
        let model = try HostedTestModel(sequences: 4)
        for _ in 0..<40 { try model.hosted.submit(HostedTestModel.request([5], tokens: nil), GenerationHandle()) {} }
        model.turn()
        let other = GenerationHandle()
        try model.hosted.submit(HostedTestModel.request([6], tokens: 1, connection: 2), other) {}
        #expect(model.hosted.waiting.allSatisfy { $0.connection == 1 })
        for _ in 0..<4 { model.turn() }
        #expect(await other.answer().summary?.generatedTokens == 1)
    }

    @Test("What could never fit is refused at once, with what it needs")
    func neverFits() throws {
        let model = try HostedTestModel(room: 4096)
        let error = refusal(model, HostedTestModel.request([5], tokens: nil))
        #expect(error?.code == .outOfMemory && error?.description.contains("MiB") == true)
        #expect(model.hosted.activeRequests == 0 && model.ledger.free == 4096)
    }

    @Test("A request that would have to wait where no more may wait is refused")
    func fullQueue() throws {
        let model = try HostedTestModel(sequences: 1)
        for _ in 0..<2 { try model.hosted.submit(HostedTestModel.request([5], tokens: nil), GenerationHandle()) {} }
        #expect(throws: ServiceError.self) {
            try model.hosted.submit(HostedTestModel.request([5], tokens: nil), GenerationHandle()) {
                throw ServiceError(.overloaded, "full", retryAfter: 1)
            }
        }
        #expect(model.hosted.waiting.count == 1)
    }

    @Test("Kept conversations give way to a request that needs their memory, the oldest first")
    func prefixesGiveWay() async throws {
        let one = try HostedTestModel().hosted.decoder.kvBytes(tokens: 256)
        let model = try HostedTestModel(room: one * 5 / 4, prefixBytes: one)
        for start in [Int32(10), 100] {
            let prompt = (0..<64).map { start + Int32($0) }
            try model.hosted.submit(HostedTestModel.request(prompt, tokens: 1), GenerationHandle()) {}
            model.runAll()
        }
        #expect(model.hosted.status.prefixes == 2)
        let handle = GenerationHandle()
        try model.hosted.submit(HostedTestModel.request((0..<255).map { Int32($0 + 40) }, tokens: nil), handle) {}
        #expect(model.hosted.status.prefixes == 1 && model.hosted.waiting.isEmpty)
        model.runAll()
        #expect(await handle.answer().summary != nil)
    }

    @Test("A request whose deadline has passed is told so, running or waiting")
    func deadlines() async throws {
        let model = try HostedTestModel(sequences: 1)
        var request = HostedTestModel.request([5], tokens: nil)
        request.origin.deadline = 10
        let (running, waiting) = (GenerationHandle(), GenerationHandle())
        try model.hosted.submit(request, running) {}
        try model.hosted.submit(request, waiting) {}
        model.turn()
        model.hosted.attend(now: 11)
        #expect(await running.answer().error?.code == .deadlineExceeded)
        #expect(await waiting.answer().error?.code == .deadlineExceeded)
        #expect(model.hosted.activeRequests == 0)
    }

    @Test("A reader that stands still stops its own stream only, and is given up after a while")
    func stalledReader() async throws {
        let model = try HostedTestModel()
        let (slow, quick) = (GenerationHandle(), GenerationHandle())
        for _ in 0..<GenerationHandle.waitingLimit { slow.send(.delta(AnswerPart(text: ""), tokens: 0)) }
        try model.hosted.submit(HostedTestModel.request([5], tokens: 20), slow) {}
        try model.hosted.submit(HostedTestModel.request([5], tokens: 20), quick) {}
        for _ in 0..<30 { model.turn() }
        #expect(await quick.answer().summary != nil)
        #expect(model.hosted.activeRequests == 1)
        model.hosted.attend(now: 31)
        #expect(await slow.answer().error?.code == .slowReader)
    }

    @Test("Others' conversations are neither shared nor seen, unless they are marked as shared")
    func isolation() async throws {
        let model = try HostedTestModel(prefixBytes: 1 << 30)
        let prompt = (0..<100).map { Int32($0 + 20) }
        func reused(uid: UInt32, shares: Bool = false) async throws -> Int? {
            var request = HostedTestModel.request(prompt, tokens: 2, uid: uid, connection: UInt64(uid))
            request.sharesPrefix = shares
            let handle = GenerationHandle()
            try model.hosted.submit(request, handle) {}
            model.runAll()
            return await handle.answer().summary?.reusedTokens
        }
        #expect(try await reused(uid: 1) == 0)
        #expect(try await reused(uid: 2) == 0)
        #expect(try await reused(uid: 0) == 0)
        #expect(try await reused(uid: 1) == 96)
        #expect(try await reused(uid: 3, shares: true) == 0)
        #expect(try await reused(uid: 4) == 96)
    }
}
