import EbbClient
import EbbProtocol
import Governor
import Service
import Testing
import TestKit

@Suite("What one client can take", .serialized)
struct BoundsTests {
    private func ping(_ bytes: Int) -> EbbEnvelope.OneOf_Body {
        var ping = EbbPing()
        ping.payload.append(contentsOf: repeatElement(7, count: bytes))
        return .ping(ping)
    }

    private func generate(_ tokens: UInt32) -> EbbEnvelope.OneOf_Body {
        var generate = EbbGenerate()
        (generate.model, generate.prompt, generate.maxTokens) = ("smollm2", "Count:", tokens)
        return .generate(generate)
    }

    private func replies(_ service: RunningService) async throws -> Int {
        Int(try await service.service.status().ledger.first { $0.kind == "replies" }?.bytes ?? 0)
    }

    /// Waits until something holds, for two minutes at most.
    private func until(_ what: String, _ condition: () async throws -> Bool) async throws {
        for _ in 0..<12_000 {
            if try await condition() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw ServiceError(.internal, "never came: \(what)")
    }

    @Test("A client that does not read is read from no more; others are served, and once it reads it gets everything")
    func unread() async throws {
        try await RunningService.with(configure: {
            $0.limits.maxQueuedReplyBytes = 1 << 20
            $0.limits.slowReaderSeconds = 3600
        }) { service in
            let raw = try await service.greeted()
            let frame = try RawSocket.frame(7, ping(1 << 20))
            let all = [[UInt8]](repeating: frame, count: 40).flatMap { $0 }
            let sent = raw.sendWhatIsTaken(all)
            #expect(sent < 8 << 20)
            #expect(try await replies(service) <= 3 << 20)
            #expect(try await service.client().ping() > .zero)
            let whole = sent / frame.count
            #expect(whole > 0)
            for _ in 0..<whole {
                guard case .pong(let pong)? = try raw.receive()?.body else {
                    Issue.record("a pong is missing")
                    return
                }
                #expect(pong.payload.count == 1 << 20)
            }
        }
    }

    @Test("A client that does not read for too long is told so in its last frame, and its requests end")
    func slowReader() async throws {
        try await RunningService.with(configure: { $0.limits.slowReaderSeconds = 0.3 }) { service in
            let raw = try await service.greeted()
            try raw.send(5, .subscribe(EbbSubscribe()))
            guard case .event? = try raw.receive()?.body else {
                Issue.record("no event")
                return
            }
            for id: UInt64 in 6..<8 { _ = raw.sendWhatIsTaken(try RawSocket.frame(id, ping(3 << 20))) }
            try await until("the end of its requests") {
                try await service.service.status().clients.allSatisfy { $0.requests == 0 }
            }
            var last: EbbEnvelope?
            while let envelope = try raw.receive() { last = envelope }
            guard case .failure(let failure)? = last?.body else {
                Issue.record("the last frame is \(String(describing: last?.body).prefix(80))")
                return
            }
            #expect(failure.code == .slowReader && last?.id == 0)
        }
    }

    @Test("A client that ends its sending side still gets its answers, then the end")
    func halfClosed() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            try raw.send(2, generate(12))
            try raw.send(3, ping(10))
            raw.shutdownWriting()
            var finished = false
            var pong = false
            while let envelope = try raw.receive() {
                if case .finished(let summary)? = envelope.body { finished = summary.generatedTokens == 12 }
                if case .pong? = envelope.body { pong = true }
            }
            #expect(finished && pong)
        }
    }

    @Test("An answer that fits no frame is a failure of its request alone")
    func answerTooLarge() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            // The largest ping there is: its pong is a byte longer.
            let frame = try RawSocket.frame(9, ping(EbbProtocol.maxFrameBytes - 12))
            #expect(frame.count == EbbProtocol.maxFrameBytes + 4)
            #expect(raw.sendWhatIsTaken(frame) == frame.count)
            guard let answer = try raw.receive(), case .failure(let failure)? = answer.body else {
                Issue.record("no failure")
                return
            }
            #expect(answer.id == 9 && failure.code == .frameTooLarge && failure.message.contains("less at once"))
            try raw.send(10, ping(3))
            guard case .pong? = try raw.receive()?.body else {
                Issue.record("the connection is gone")
                return
            }
        }
    }

    @Test("A request that there is no memory for is refused by its id, and the next is served")
    func noMemory() async throws {
        try await RunningService.with(configure: { $0.policy = Policy(budget: 1 << 20, reserve: 0) }) { service in
            let raw = try await service.greeted()
            let frame = try RawSocket.frame(300, ping(2 << 20))
            #expect(raw.sendWhatIsTaken(frame) == frame.count)
            guard let answer = try raw.receive(), case .failure(let failure)? = answer.body else {
                Issue.record("no failure")
                return
            }
            #expect(answer.id == 300 && failure.code == .outOfMemory && failure.retry)
            try raw.send(301, ping(3))
            guard case .pong? = try raw.receive()?.body else {
                Issue.record("the connection is gone")
                return
            }
        }
    }

    @Test("Subscriptions of a connection are bounded; one that is cancelled makes room")
    func subscriptions() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            func answer() throws -> (UInt64, EbbEnvelope.OneOf_Body?) {
                let answer = try #require(try raw.receive())
                return (answer.id, answer.body)
            }
            for id in UInt64(1)...4 {
                try raw.send(id, .subscribe(EbbSubscribe()))
                guard case (id, .event?) = try answer() else {
                    Issue.record("subscription \(id) is refused")
                    return
                }
            }
            try raw.send(5, .subscribe(EbbSubscribe()))
            guard case (5, .failure(let failure)?) = try answer() else {
                Issue.record("a fifth is accepted")
                return
            }
            #expect(failure.code == .badRequest && failure.message.contains("4 subscriptions"))
            var cancel = EbbCancel()
            cancel.request = 2
            try raw.send(6, .cancel(cancel))
            let ends = [try answer().0, try answer().0]
            #expect(ends.sorted() == [2, 6])
            try raw.send(7, .subscribe(EbbSubscribe()))
            guard case (7, .event?) = try answer() else {
                Issue.record("the place is not free again")
                return
            }
        }
    }

    @Test("Connections of a user are bounded; a place that is left can be taken again")
    func connectionsOfAUser() async throws {
        try await RunningService.with(configure: { $0.limits.maxConnectionsPerUser = 3 }) { service in
            var held: [RawSocket] = []
            for _ in 0..<3 { held.append(try await service.greeted()) }
            let refused = try await service.raw()
            try refused.expectFailure(.overloaded)
            try refused.expectEnd()
            held.removeLast()
            try await until("a place") { (try? await service.greeted()) != nil }
        }
    }

    @Test("Connections in all are bounded, and a client library says so")
    func connections() async throws {
        try await RunningService.with(configure: { $0.limits.maxConnections = 2 }) { service in
            let held = [try await service.greeted(), try await service.greeted()]
            do {
                _ = try await service.client()
                Issue.record("a third was let in")
            } catch let error as ClientError {
                #expect(error.kind == .refused(.overloaded) && error.retryAfter != nil)
            }
            withExtendedLifetime(held) {}
        }
    }

    @Test("A client that never shakes hands is told so and closed")
    func silent() async throws {
        try await RunningService.with(configure: { $0.limits.handshakeSeconds = 0.2 }) { service in
            let silent = try await service.raw()
            try silent.expectFailure(.badRequest)
            try silent.expectEnd()
        }
    }

    @Test("A client that never ends a frame is told so and closed")
    func halfAFrame() async throws {
        try await RunningService.with(configure: { $0.limits.slowReaderSeconds = 0.2 }) { service in
            let half = try await service.greeted()
            half.send([0, 0, 1, 0, 1, 2, 3])
            try half.expectFailure(.badRequest)
            try half.expectEnd()
        }
    }

    @Test("A small frame that would take much memory once decoded is refused before")
    func decodingBombs() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            let messages = [UInt8](repeating: 0, count: 1_000_000).flatMap { _ in [0x0a, 0x00] as [UInt8] }
            let chat = field(5, field(3, messages))
            let statuses = field(73, [UInt8](repeating: 0, count: 1_000_000).flatMap { _ in [0x32, 0x00] as [UInt8] })
            for body in [chat, statuses] {
                let payload = [0x08, 0x09] + body
                let frame = withUnsafeBytes(of: UInt32(payload.count).bigEndian) { Array($0) } + payload
                #expect(raw.sendWhatIsTaken(frame) == frame.count)
                let answer = try raw.receive()
                guard case .failure(let failure)? = answer?.body else {
                    Issue.record("no failure")
                    return
                }
                #expect(answer?.id == 9 && failure.code == .badRequest)
            }
        }
    }

    /// A field with bytes, as protobuf writes it.
    private func field(_ number: Int, _ content: [UInt8]) -> [UInt8] {
        func varint(_ value: Int) -> [UInt8] {
            value < 128 ? [UInt8(value)] : [UInt8(value & 127) | 128] + varint(value >> 7)
        }
        return varint(number << 3 | 2) + varint(content.count) + content
    }

    @Test("A client's name is shown without what would act on a terminal")
    func name() async throws {
        try await RunningService.with { service in
            let raw = try await service.raw()
            try raw.greet(as: "a\u{1b}[2J\u{9b}1m\u{202e}b\n" + String(repeating: "x", count: 500))
            let names = try await service.service.status().clients.map(\.name)
            #expect(names.count == 1 && names.first?.hasPrefix("a\\u{1b}[2J") == true)
            #expect(names.allSatisfy { $0.count < 200 && !$0.unicodeScalars.contains(where: \.isControl) })
        }
    }

    @Test("A request that fits no frame is refused by the client library itself, which goes on")
    func requestTooLarge() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            do {
                _ = try await ebb.tokenize("smollm2", String(repeating: "a", count: 5 << 20))
                Issue.record("it was sent")
            } catch let error as ClientError {
                #expect(error.kind == .refused(.frameTooLarge) && error.description.contains("shorter"))
            }
            #expect(try await ebb.ping() > .zero)
        }
    }
}
