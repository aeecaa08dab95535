import EbbClient
import EbbProtocol
import Foundation
import Glibc
import Service
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
            let raw = try RawSocket(service.socket)
            try raw.greet()
            raw.send([0xff, 0xff, 0xff, 0xff, 1, 2, 3])
            #expect(failure(try raw.receive()) == .frameTooLarge)
            #expect(try raw.receive() == nil)
        }
    }

    @Test("A frame that is no envelope is answered, then the connection closed")
    func malformed() async throws {
        try await RunningService.with { service in
            let raw = try RawSocket(service.socket)
            try raw.greet()
            raw.send([0, 0, 0, 3, 0xff, 0xff, 0xff])
            #expect(failure(try raw.receive()) == .badRequest)
            #expect(try raw.receive() == nil)
        }
    }

    @Test("Half a frame, then the end, closes the connection")
    func half() async throws {
        try await RunningService.with { service in
            let raw = try RawSocket(service.socket)
            try raw.greet()
            raw.send([0, 0, 0, 50, 1, 2])
            raw.shutdownWriting()
            while try raw.receive() != nil {}
            #expect(try await service.client().ping() > .zero)
        }
    }

    @Test("Without Hello, or with a version that is not spoken, there is no service")
    func handshake() async throws {
        try await RunningService.with { service in
            let rude = try RawSocket(service.socket)
            try rude.send(1, .ping(EbbPing()))
            #expect(failure(try rude.receive()) == .badRequest)
            #expect(try rude.receive() == nil)
            let future = try RawSocket(service.socket)
            var hello = EbbHello()
            (hello.versionMin, hello.versionMax) = (7, 9)
            try future.send(1, .hello(hello))
            #expect(failure(try future.receive()) == .unsupportedVersion)
            #expect(try future.receive() == nil)
        }
    }

    @Test("Requests that are none, or whose id is taken, are refused one by one")
    func badRequests() async throws {
        try await RunningService.with { service in
            let raw = try RawSocket(service.socket)
            try raw.greet()
            try raw.send(0, .ping(EbbPing()))
            #expect(failure(try raw.receive()) == .badRequest)
            try raw.send(5, .welcome(EbbWelcome()))
            #expect(failure(try raw.receive()) == .badRequest)
            raw.send([0, 0, 0, 2, 0x08, 7])  // an envelope with an id and nothing else
            #expect(failure(try raw.receive()) == .badRequest)
            var generate = EbbGenerate()
            (generate.model, generate.prompt) = ("smollm2", "Count:")
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
            let raw = try RawSocket(service.socket)
            try raw.greet()
            var generate = EbbGenerate()
            (generate.model, generate.prompt) = ("smollm2", "Count:")
            generate.maxTokens = 4000
            try raw.send(2, .generate(generate))
            while let envelope = try raw.receive() { if case .delta? = envelope.body { break } }
            var cancel = EbbCancel()
            cancel.request = 2
            try raw.send(3, .cancel(cancel))
            var (done, cancelled) = (false, false)
            while !(done && cancelled), let envelope = try raw.receive() {
                if envelope.id == 3, case .done? = envelope.body { done = true }
                if envelope.id == 2, failure(envelope) == .cancelled { cancelled = true }
            }
            #expect(done && cancelled)
        }
    }

    @Test("More requests than the limit are refused, with a time to try again")
    func tooMany() async throws {
        try await RunningService.with { service in
            let raw = try RawSocket(service.socket)
            try raw.greet()
            var generate = EbbGenerate()
            (generate.model, generate.prompt) = ("smollm2", "Count:")
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
                let raw = try RawSocket(service.socket)
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
            let raw = try RawSocket(service.socket)
            try raw.greet()
            var generate = EbbGenerate()
            (generate.model, generate.prompt) = ("smollm2", "Count:")
            for id in 2..<UInt64(20) { try raw.send(id, .generate(generate)) }
            var options = GenerationOptions.greedy
            options.maxTokens = 8
            #expect(try await service.client().generate("smollm2", prompt: "The sky is", options: options).text().isEmpty == false)
        }
    }

    @Test("The socket's mode is 0660")
    func mode() async throws {
        try await RunningService.with { service in
            var info = stat()
            #expect(lstat(service.socket, &info) == 0)
            #expect(info.st_mode & 0o777 == 0o660)
        }
    }

    @Test("A stale socket file is replaced")
    func stale() async throws {
        let folder = try TemporaryFolder()
        let path = folder.file("ebb.sock")
        let dead = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        #expect(withUnsafePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(dead, $0, size) } } == 0)
        close(dead)
        try await RunningService.with(socket: path) { #expect(try await $0.client().ping() > .zero) }
    }

    @Test("A second daemon on the same socket is refused, and the first goes on")
    func second() async throws {
        try await RunningService.with { service in
            let error = await #expect(throws: ServiceError.self) {
                try await RunningService.with(socket: service.socket) { _ in }
            }
            #expect(error?.description.contains("another ebbd") == true)
            #expect(try await service.client().ping() > .zero)
        }
    }

    @Test("A path that is no socket is left alone")
    func noSocket() async throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("precious", [1, 2, 3])
        await #expect(throws: ServiceError.self) { try await RunningService.with(socket: path) { _ in } }
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
        let ebb = try await RunningService.with(socket: path) { service in
            let ebb = try await service.client()
            #expect(try await ebb.ping() > .zero)
            return ebb
        }
        try await RunningService.with(socket: path) { _ in
            // The first call may still meet the old connection's end.
            var answered = false
            for _ in 0..<50 where !answered {
                answered = (try? await ebb.ping()) != nil
                if !answered { try await Task.sleep(for: .milliseconds(10)) }
            }
            #expect(answered)
        }
    }
}
