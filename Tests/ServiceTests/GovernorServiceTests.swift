import EbbClient
import EbbProtocol
import Engine
import Foundation
import Governor
@testable import Service
import Synchronization
import TestKit
import Testing

@Suite("The governor in the service", .serialized)
struct GovernorServiceTests {
    private func greedy(_ tokens: Int) -> GenerationOptions {
        var options = GenerationOptions.greedy
        options.maxTokens = tokens
        return options
    }

    private func failure(_ body: () async throws -> Void) async -> ClientError? {
        do {
            try await body()
            return nil
        } catch {
            return error as? ClientError
        }
    }

    /// A folder with a copy of SmolLM2 that a test may damage.
    private func copies(_ names: String...) throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        let source = try RealModel.smollm2.open().path
        for name in names { try FileManager.default.copyItem(atPath: source, toPath: folder.file("\(name).ebb")) }
        return folder
    }

    @Test("The operator's word acts at once, is told to subscribers with its reason, and passes")
    func operatorWord() async throws {
        try await RunningService.with(configure: { $0.defaultWish = .auto }) { service in
            let ebb = try await service.client()
            _ = try await ebb.load("smollm2")
            try await service.until("all layers expanded") { $0.layers > 0 && $0.expanded == $0.layers }
            var iterator = try await service.client().events().makeAsyncIterator()
            // The first says that the subscription stands.
            #expect(try await iterator.next()?.what == "nominal")
            try await ebb.setPressure(.critical, seconds: 60)
            var seen: [EbbEvent] = []
            while !seen.contains(where: { $0.what == "dropped" }), let event = try await iterator.next() {
                seen.append(event)
            }
            let events = seen.map { "\($0.kind) \($0.what) \($0.model): \($0.reason)" }
            let level = events.first { $0.hasPrefix("level") } ?? ""
            #expect(level.hasPrefix("level critical") && level.contains("operator"), "\(events)")
            let mode = seen[seen.count - 1]
            #expect(mode.model == "smollm2" && mode.changedLayers.count == 31 && mode.expandedLayers == 0)
            #expect(mode.freedBytes > 200 << 20 && mode.reactionUs > 0)
            let status = try await ebb.status()
            #expect(status.sources.contains { $0.name == "operator" && $0.level == .critical })
            try await ebb.setPressure(.nominal, seconds: 0)
            try await service.until("all layers expanded again") { $0.expanded == $0.layers }
        }
    }

    @Test("A preference holds over a restart, and memory never expands")
    func preferences() async throws {
        let state = try TemporaryFolder()
        defer { withExtendedLifetime(state) {} }
        try await RunningService.with(configure: {
            $0.state = state.path
            $0.defaultWish = .auto
        }) { service in
            let ebb = try await service.client()
            try await ebb.prefer("smollm2", .memory, priority: 3)
            let unknown = await failure { try await ebb.prefer("nothing", .memory) }
            #expect(unknown?.kind == .refused(.unknownModel))
        }
        try await RunningService.with(configure: {
            $0.state = state.path
            $0.defaultWish = .auto
        }) { service in
            let ebb = try await service.client()
            let listed = try await ebb.models().first { $0.name == "smollm2" }
            #expect(listed?.preference == .memory && listed?.priority == 3)
            _ = try await ebb.load("smollm2")
            _ = try await ebb.generate("smollm2", prompt: "The sea", options: greedy(20)).text()
            #expect(try await service.service.status().models.first?.expandedLayers == 0)
            try await ebb.prefer("smollm2", .accuracy)
            try await service.until("all layers expanded") { $0.layers > 0 && $0.expanded == $0.layers }
        }
    }

    @Test("What is remembered and damaged starts anew, without harm")
    func damagedState() async throws {
        let state = try TemporaryFolder()
        defer { withExtendedLifetime(state) {} }
        try state.write("models.json", Array("{\"choices\": 3".utf8))
        try await RunningService.with(configure: { $0.state = state.path }) { service in
            let ebb = try await service.client()
            try await ebb.prefer("smollm2", .speed)
            #expect(try await ebb.models().first { $0.name == "smollm2" }?.preference == .speed)
        }
    }

    @Test("A model is measured in both modes after its first load, and what it costs is shown")
    func costs() async throws {
        let state = try TemporaryFolder()
        defer { withExtendedLifetime(state) {} }
        try await RunningService.with(configure: {
            $0.state = state.path
            $0.probesModes = true
        }) { service in
            let ebb = try await service.client()
            _ = try await ebb.load("smollm2")
            var costs: EbbModeCosts?
            for _ in 0..<15_000 where costs == nil {
                try await Task.sleep(for: .milliseconds(20))
                costs = try await ebb.status().models.first { $0.hasCosts }?.costs
            }
            let found = try #require(costs)
            #expect(found.loss > 0 && found.loss < 0.05 && found.decodeRatio > 0 && found.prefillRatio > 0)
            #expect(try await ebb.models().first { $0.name == "smollm2" }?.costs == found)
        }
    }

    @Test("Under pressure the cache of a running sequence turns int8, and the text goes on")
    func compactsRunning() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            var pieces = 0
            let prompt = String(repeating: "The sea was calm that day. ", count: 20)
            for try await event in try await ebb.generate("smollm2", prompt: prompt, options: greedy(600)) {
                guard case .text = event else { continue }
                pieces += 1
                if pieces == 5 { service.source.say(.critical) }
                if pieces == 6 {
                    for _ in 0..<30_000 {
                        if try await service.service.status().models.first?.kvBlocksInt8 ?? 0 > 0 { break }
                        try await Task.sleep(for: .milliseconds(2))
                    }
                    #expect(try await service.service.status().models.first?.kvBlocksInt8 ?? 0 > 0)
                }
                if pieces == 40 { break }
            }
            #expect(pieces == 40)
        }
    }

    @Test("A conversation's next turn shares the cache of the last; pressure drops what was kept")
    func prefixes() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            let first = "Tell me about the sea. " + String(repeating: "It is wide and blue and deep. ", count: 20)
            let answer = try await ebb.generate("smollm2", prompt: first, options: greedy(30)).text()
            let kept = try await ebb.status().models.first
            #expect(kept?.prefixes == 1 && kept?.prefixBytes ?? 0 > 0)
            let before = kept?.promptTokens ?? 0
            let second = first + answer + " And now"
            _ = try await ebb.generate("smollm2", prompt: second, options: greedy(10)).text()
            let fed = try await ebb.status().models.first.map { $0.promptTokens - before } ?? 0
            // Whole blocks of 32 tokens are shared: what is fed is less than two blocks.
            #expect(fed < 64)
            service.source.say(.warning)
            try await service.until("the caches gone") { $0.kvBytes == 0 }
            service.source.say(.nominal)
            let again = try await ebb.status().models.first?.promptTokens ?? 0
            _ = try await ebb.generate("smollm2", prompt: second, options: greedy(10)).text()
            #expect(try await ebb.status().models.first.map { $0.promptTokens - again } ?? 0 > 150)
        }
    }

    @Test("An idle model is parked, its conversations go to a file, and the next request takes it up where it was")
    func parking() async throws {
        let state = try TemporaryFolder()
        defer { withExtendedLifetime(state) {} }
        try await RunningService.with(configure: {
            $0.state = state.path
            $0.policy.idleTime = 0.3
        }) { service in
            let ebb = try await service.client()
            let prompt = "The harbour. " + String(repeating: "Boats come in and boats go out. ", count: 12)
            let answer = try await ebb.generate("smollm2", prompt: prompt, options: greedy(10)).text()
            try await parked(ebb)
            let file = state.file("parked/smollm2.kv")
            #expect(FileManager.default.fileExists(atPath: file))
            let status = try await ebb.status().models.first
            #expect(status?.kvBytes == 0 && status?.residentBytes ?? .max < 20 << 20)
            let before = status?.promptTokens ?? 0
            _ = try await ebb.generate("smollm2", prompt: prompt + answer + " Then", options: greedy(5)).text()
            let fed = try await ebb.status().models.first.map { $0.promptTokens - before } ?? 0
            // Whether the file has gone cannot be seen for sure: a moment later the model is parked again.
            #expect(fed < 64)
            try await parked(ebb)
            #expect(FileManager.default.fileExists(atPath: file))
            try await ebb.unload("smollm2")
            for _ in 0..<60_000 where FileManager.default.fileExists(atPath: file) {
                try await Task.sleep(for: .milliseconds(5))
            }
            #expect(!FileManager.default.fileExists(atPath: file))
        }
    }

    private func parked(_ ebb: EbbClient) async throws {
        for _ in 0..<60_000 {
            if try await ebb.status().models.first?.parked == true { return }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw ServiceError(.internal, "never parked")
    }

    @Test("A full disk at parking costs the conversations, and nothing else")
    func fullDisk() async throws {
        let state = try TemporaryFolder()
        defer { withExtendedLifetime(state) {} }
        try await RunningService.with(configure: {
            $0.state = state.path
            $0.policy.idleTime = 0.3
        }) { service in
            let ebb = try await service.client()
            let disk = state.file("parked")
            try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
            // Who may not mount a small disk has none at all there.
            let isMounted = mount("tmpfs", disk, "tmpfs", 0, "size=64k,mode=700") == 0
            if !isMounted { #expect(rmdir(disk) == 0 && close(creat(disk, 0o600)) == 0) }
            defer { if isMounted { umount(disk) } }
            let events = try await service.client().events()
            let reason = Mutex("")
            let listening = Task {
                for try await event in events where event.what == "parked" { reason.withLock { $0 = event.reason } }
            }
            let prompt = String(repeating: "Boats come in and boats go out. ", count: 12)
            let text = try await ebb.generate("smollm2", prompt: prompt, options: greedy(10)).text()
            try await parked(ebb)
            #expect(try await ebb.generate("smollm2", prompt: prompt, options: greedy(10)).text() == text)
            for _ in 0..<60_000 where reason.withLock({ $0.isEmpty }) { try await Task.sleep(for: .milliseconds(5)) }
            let told = reason.withLock { $0 }
            #expect(told.contains("dropped") && (told.contains("No space left") || !isMounted), "\(told)")
            if isMounted { #expect(try FileManager.default.contentsOfDirectory(atPath: disk).isEmpty) }
            listening.cancel()
        }
    }

    @Test(
        "What does not fit is refused before it takes memory, with what would help; a level of critical refuses loads")
    func admission() async throws {
        let available = Mutex(1 << 40)
        try await RunningService.with(configure: { $0.availableBytes = { available.withLock { $0 } } }) { service in
            let ebb = try await service.client()
            available.withLock { $0 = 50 << 20 }
            let load = await failure { _ = try await ebb.load("smollm2") }
            #expect(
                load?.kind == .refused(.outOfMemory) && load?.description.contains("95 MiB") == true,
                "\(load?.description ?? "")")
            #expect(load?.description.contains("unload a model") == true && load?.retryAfter != nil)
            available.withLock { $0 = 1 << 40 }
            _ = try await ebb.load("smollm2")
            // Room for the file's 95 MiB and for a text to be tokenized, and none for 45 MiB of KV cache.
            available.withLock { $0 = 112 << 20 }
            var long = greedy(2000)
            long.temperature = 0
            let context = await failure {
                _ = try await ebb.generate("smollm2", prompt: "The sea", options: long).text()
            }
            #expect(
                context?.kind == .refused(.outOfMemory) && context?.description.contains("context") == true,
                "\(context?.description ?? "")")
            available.withLock { $0 = 1 << 40 }
            try await ebb.unload("smollm2")
            service.source.say(.critical)
            try await service.until("the level") { $0.level == .critical }
            let critical = await failure { _ = try await ebb.load("smollm2") }
            #expect(
                critical?.kind == .refused(.outOfMemory) && critical?.description.contains("critically scarce") == true)
        }
    }

    @Test("A model file that was found written over is not taken again before its checksums are right")
    func writtenOver() async throws {
        let folder = try TinyModels.llama("tiny")
        defer { withExtendedLifetime(folder) {} }
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let before = try await ebb.generate("tiny", prompt: "a", options: greedy(4)).text()
            let path = folder.file("tiny.ebb")
            let whole = try Data(contentsOf: URL(fileURLWithPath: path))
            func write(_ bytes: Data) throws {
                let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
                try file.seek(toOffset: UInt64(whole.count - bytes.count))
                try file.write(contentsOf: bytes)
                try file.close()
            }
            // The last matrix' end, in place.
            try write(Data(repeating: 1, count: 64))
            var errors: [String] = []
            for _ in 0..<1000 where errors.last?.contains("checksum") != true {
                let lost = await failure { _ = try await ebb.generate("tiny", prompt: "a", options: greedy(4)).text() }
                if let lost { errors.append(lost.description) }
                try await Task.sleep(for: .milliseconds(10))
            }
            #expect(errors.first?.contains("was changed while it was in use") == true, "\(errors)")
            #expect(errors.last?.contains("checksum") == true, "\(errors.last ?? "none")")
            for _ in 0..<3 {
                let lost = await failure { _ = try await ebb.load("tiny") }
                #expect(lost?.kind == .refused(.modelUnusable))
            }
            try write(whole.suffix(64))
            #expect(try await ebb.generate("tiny", prompt: "a", options: greedy(4)).text() == before)
        }
    }

    @Test("A model file that is cut short in use fails its model, not the daemon; others go on")
    func cutShort() async throws {
        let folder = try copies("broken", "whole")
        defer { withExtendedLifetime(folder) {} }
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            _ = try await ebb.load("broken")
            _ = try await ebb.load("whole")
            let before = try await ebb.generate("whole", prompt: "The sea", options: greedy(10)).text()
            truncate(folder.file("broken.ebb"), 1 << 20)
            let lost = await failure {
                for _ in 0..<50 { _ = try await ebb.generate("broken", prompt: "The sea", options: greedy(10)).text() }
            }
            #expect(lost?.kind == .refused(.modelUnusable), "\(lost?.description ?? "no error")")
            #expect(try await ebb.generate("whole", prompt: "The sea", options: greedy(10)).text() == before)
            let again = await failure { _ = try await ebb.load("broken") }
            #expect(again?.kind == .refused(.modelUnusable))
        }
    }

    @Test("A model file that is replaced is loaded anew by the next request")
    func replaced() async throws {
        let folder = try copies("one", "two")
        defer { withExtendedLifetime(folder) {} }
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let before = try await ebb.generate("one", prompt: "The sea", options: greedy(10)).text()
            #expect(rename(folder.file("two.ebb"), folder.file("one.ebb")) == 0)
            try await service.until("the old one to go") { $0.layers == 0 }
            #expect(try await ebb.generate("one", prompt: "The sea", options: greedy(10)).text() == before)
        }
    }

    @Test("A model file that was replaced while nobody asked for anything is loaded anew by the next request")
    func replacedWhileIdle() async throws {
        let folder = try TinyModels.llama("one")
        defer { withExtendedLifetime(folder) {} }
        try TinyModels.addLlama("two", layers: 3, to: folder)
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            _ = try await ebb.generate("one", prompt: "The sea", options: greedy(3)).text()
            // Until the ticks have ended: then only the request can notice.
            let (attention, seen) = (service.service.attention, service.service.thread.filesSeen)
            for _ in 0..<60_000 {
                let now = MonotonicClock.now()
                if attention.isQuiet(now: now), now - seen.at > 1.1 { break }
                try await Task.sleep(for: .milliseconds(5))
            }
            #expect(rename(folder.file("two.ebb"), folder.file("one.ebb")) == 0)
            _ = try await ebb.generate("one", prompt: "The sea", options: greedy(3)).text()
            #expect(try await service.service.status().models.map(\.layers) == [4])
        }
    }

    @Test("Clients are named in the status, with their requests")
    func clients() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            let stream = try await ebb.generate("smollm2", prompt: "The sea", options: greedy(200))
            var iterator = stream.makeAsyncIterator()
            _ = try await iterator.next()
            let clients = try await service.client().status().clients
            #expect(clients.count == 2 && clients.allSatisfy { $0.name == "test" && $0.pid == getpid() })
            let requests = clients.map(\.requests).sorted()
            #expect(requests == [1, 1])
        }
    }
}
