import EbbClient
import EbbProtocol
import Service
import Testing
import TestKit

@Suite("Stopping the service", .serialized)
struct DrainingTests {
    private func generate(_ tokens: UInt32) -> EbbEnvelope.OneOf_Body {
        var generate = EbbGenerate()
        (generate.model, generate.prompt, generate.maxTokens) = ("smollm2", "The sea", tokens)
        generate.sampling.temperature = 0
        return .generate(generate)
    }

    private func failure(_ envelope: EbbEnvelope?) -> EbbCode? {
        if case .failure(let failure)? = envelope?.body { return failure.code }
        return nil
    }

    @Test("A subscription, and what comes too late, ends with SHUTTING_DOWN; what runs ends well")
    func ends() async throws {
        try await RunningService.with(configure: { $0.grace = .seconds(600) }) { service in
            let raw = try await service.greeted()
            try raw.send(2, .subscribe(EbbSubscribe()))
            try raw.send(3, generate(300))
            while let envelope = try raw.receive() { if case .delta? = envelope.body { break } }
            let stopping = Task { await service.service.stop() }
            var ended: EbbCode?
            while ended == nil, let envelope = try raw.receive() {
                if envelope.id == 2 { ended = failure(envelope) }
            }
            #expect(ended == .shuttingDown)
            try raw.send(4, generate(1))
            var late: EbbCode?
            var finished = false
            while let envelope = try raw.receive() {
                if envelope.id == 4 { late = failure(envelope) }
                if case .finished? = envelope.body { finished = true }
            }
            #expect(late == .shuttingDown)
            #expect(finished)
            await stopping.value
        }
    }

    @Test("What was accepted ends well, also where its model was still being loaded")
    func accepted() async throws {
        try await RunningService.with(configure: { $0.grace = .seconds(600) }) { service in
            let raw = try await service.greeted()
            try raw.send(2, generate(5))
            // Answered in its turn: the request before it has been accepted then.
            try raw.send(3, .ping(EbbPing()))
            var finished = false
            var stopping: Task<Void, Never>?
            while let envelope = try raw.receive() {
                if case .pong? = envelope.body { stopping = Task { await service.service.stop() } }
                if case .finished? = envelope.body { finished = true }
            }
            #expect(finished)
            await stopping?.value
        }
    }

    @Test("What the grace is too short for fails with SHUTTING_DOWN, which arrives")
    func graceOver() async throws {
        try await RunningService.with(configure: { $0.grace = .milliseconds(50) }) { service in
            let raw = try await service.greeted()
            for id: UInt64 in 2..<6 { try raw.send(id, generate(4000)) }
            while let envelope = try raw.receive() { if case .delta? = envelope.body { break } }
            let stopping = Task { await service.service.stop() }
            var failed: Set<UInt64> = []
            while let envelope = try raw.receive() {
                if failure(envelope) == .shuttingDown { failed.insert(envelope.id) }
            }
            #expect(failed == [2, 3, 4, 5])
            await stopping.value
        }
    }

    @Test("Idle connections, and one that waits for nothing but does not read, do not hold the stop up")
    func idle() async throws {
        try await RunningService.with(configure: { $0.grace = .seconds(600) }) { service in
            let idle = try await service.greeted()
            let deaf = try await service.greeted()
            var ping = EbbPing()
            ping.payload.append(contentsOf: repeatElement(7, count: 3 << 20))
            _ = deaf.sendWhatIsTaken(try RawSocket.frame(2, .ping(ping)))
            await service.service.stop()
            try idle.expectEnd()
        }
    }
}
