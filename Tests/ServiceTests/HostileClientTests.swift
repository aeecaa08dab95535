import EbbClient
import EbbProtocol
import Foundation
import Glibc
import Service
import Synchronization
import Testing
import TestKit

@Suite("Hostile and clumsy clients", .serialized)
struct HostileClientTests {
    private func failure(_ envelope: EbbEnvelope?) -> EbbCode? {
        if case .failure(let failure)? = envelope?.body { return failure.code }
        return nil
    }

    @Test("A frame that is too long is answered, then the connection closed")
    func tooLong() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            raw.send([0xff, 0xff, 0xff, 0xff, 1, 2, 3])
            try raw.expectFailure(.frameTooLarge)
            try raw.expectEnd()
        }
    }

    @Test("A frame that is no envelope is answered, then the connection closed")
    func malformed() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            raw.send([0, 0, 0, 3, 0xff, 0xff, 0xff])
            try raw.expectFailure(.badRequest)
            try raw.expectEnd()
        }
    }

    @Test("Half a frame, then the end, closes the connection")
    func half() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            raw.send([0, 0, 0, 50, 1, 2])
            raw.shutdownWriting()
            while try raw.receive() != nil {}
            #expect(try await service.client().ping() > .zero)
        }
    }

    @Test("Without Hello, or with a version that is not spoken, there is no service")
    func handshake() async throws {
        try await RunningService.with { service in
            let rude = try await service.raw()
            try rude.send(1, .ping(EbbPing()))
            try rude.expectFailure(.badRequest)
            try rude.expectEnd()
            let future = try await service.raw()
            var hello = EbbHello()
            hello.versionMin = 7
            hello.versionMax = 9
            try future.send(1, .hello(hello))
            try future.expectFailure(.unsupportedVersion)
            try future.expectEnd()
        }
    }

    @Test("Requests that are none, or whose id is taken, are refused one by one")
    func badRequests() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            try raw.send(5, .welcome(EbbWelcome()))
            try raw.expectFailure(.badRequest)
            raw.send([0, 0, 0, 2, 0x08, 7])  // an envelope with an id and nothing else
            try raw.expectFailure(.badRequest)
            var generate = EbbGenerate()
            generate.model = "smollm2"
            generate.prompt = "Count:"
            try raw.send(9, .generate(generate))
            try raw.send(9, .generate(generate))
            var refused = false
            while !refused, let envelope = try raw.receive() { refused = failure(envelope) == .badRequest }
            #expect(refused)
        }
    }

    @Test("Cancel by id ends the request with Cancelled, and is itself answered")
    func cancel() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            var generate = EbbGenerate()
            generate.model = "smollm2"
            generate.prompt = "Count:"
            generate.maxTokens = 4000
            try raw.send(2, .generate(generate))
            while let envelope = try raw.receive() { if case .delta? = envelope.body { break } }
            var cancel = EbbCancel()
            cancel.request = 2
            try raw.send(3, .cancel(cancel))
            var done = false
            var cancelled = false
            while !(done && cancelled), let envelope = try raw.receive() {
                if envelope.id == 3, case .done? = envelope.body { done = true }
                if envelope.id == 2, failure(envelope) == .cancelled { cancelled = true }
            }
            #expect(done)
            #expect(cancelled)
        }
    }

    @Test("More requests than the limit are refused, with a time to try again")
    func tooMany() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            var generate = EbbGenerate()
            generate.model = "smollm2"
            generate.prompt = "Count:"
            generate.maxTokens = 4000
            for id in 1...UInt64(EbbProtocol.maxInFlight + 1) { try raw.send(id + 10, .generate(generate)) }
            var overloaded: EbbFailure?
            while overloaded == nil, let envelope = try raw.receive() {
                if case .failure(let failure)? = envelope.body { overloaded = failure }
            }
            #expect(overloaded?.code == .overloaded && overloaded?.retry == true)
        }
    }

    @Test("Random bytes never end the daemon")
    func fuzz() async throws {
        try await RunningService.with { service in
            var random = TestRandom(seed: 51)
            for _ in 0..<60 {
                let raw = try await service.raw()
                if Bool.random(using: &random) { try raw.greet() }
                var bytes = random.bytes(Int.random(in: 1...200, using: &random))
                if Bool.random(using: &random) { bytes = [0, 0, 0, UInt8(min(bytes.count, 255))] + bytes }
                raw.send(bytes)
            }
            #expect(try await service.client().ping() > .zero)
        }
    }

    @Test("A reader that does not read stalls itself alone")
    func slowReader() async throws {
        try await RunningService.with { service in
            let raw = try await service.greeted()
            var generate = EbbGenerate()
            generate.model = "smollm2"
            generate.prompt = "Count:"
            for id in 2..<UInt64(20) { try raw.send(id, .generate(generate)) }
            var options = GenerationOptions.greedy
            options.maxTokens = 8
            #expect(
                try await service.client().generate("smollm2", prompt: "The sky is", options: options).text().isEmpty
                    == false)
        }
    }

    @Test("The socket's mode is 0660")
    func mode() async throws {
        try await RunningService.with { service in
            let mode = try FileManager.default.attributesOfItem(atPath: service.socket)[.posixPermissions] as? Int
            #expect(mode == 0o660)
        }
    }

    @Test("A stale socket file is replaced")
    func stale() async throws {
        let folder = try TemporaryFolder()
        let path = folder.file("ebb.sock")
        try RawSocket.leaveStale(path)
        try await RunningService.with(socket: path) { service in
            let time = try await service.client().ping()
            #expect(time > .zero)
        }
    }

    @Test("A second daemon on the same socket is refused, and the first goes on")
    func second() async throws {
        try await RunningService.with { service in
            let error = try #require(await RunningService.startError(socket: service.socket))
            #expect(error.description.contains("another ebbd"))
            #expect(try await service.client().ping() > .zero)
        }
    }

    @Test("A path that is no socket is left alone")
    func noSocket() async throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("precious", [1, 2, 3])
        #expect(await RunningService.startError(socket: path) != nil)
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == Data([1, 2, 3]))
    }

    @Test("A client says what to do when there is no daemon, and connects again when there is one")
    func reconnect() async throws {
        let folder = try TemporaryFolder()
        let path = folder.file("ebb.sock")
        do {
            _ = try await EbbClient.connect(to: path)
            Issue.record("it connected to nothing")
        } catch let error as ClientError {
            #expect(error.kind == .unreachable && error.description.contains("is ebbd running"))
        }
        let connected = Mutex<EbbClient?>(nil)
        try await RunningService.with(socket: path) { service in
            let client = try await service.client()
            connected.withLock { $0 = client }
        }
        let ebb = try #require(connected.withLock { $0 })
        try await RunningService.with(socket: path) { service in
            #expect(service.socket == path)
            // The first call may still meet the old connection's end.
            var answered = false
            for _ in 0..<30_000 where !answered {
                answered = (try? await ebb.ping()) != nil
                if !answered { try await Task.sleep(for: .milliseconds(10)) }
            }
            #expect(answered)
        }
    }
}
