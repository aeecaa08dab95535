import EbbClient
import EbbProtocol
import Foundation
import Glibc
import Service
import TestKit
import Testing

@Suite("Which models there are, and which are loaded", .serialized)
struct RegistryTests {
    private func short() -> GenerationOptions {
        var options = GenerationOptions.greedy
        options.maxTokens = 2
        return options
    }

    @Test("Many who need a model at once wait for one load")
    func oneLoad() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            var events = try await ebb.events().makeAsyncIterator()
            _ = try await events.next()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<16 {
                    group.addTask {
                        let ebb = try await service.client()
                        _ = try await ebb.generate("tiny", prompt: "abc", options: short()).text()
                        try await ebb.close()
                    }
                }
                try await group.waitForAll()
            }
            // What comes after is known to come last.
            try await ebb.unload("tiny")
            var loads = 0
            while let event = try await events.next(), event.what != "unloaded" {
                if event.what == "loaded" { loads += 1 }
            }
            #expect(loads == 1)
        }
    }

    @Test("A client that goes while its model is loaded does not end the load for the others")
    func clientGoes() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            let staying = try await service.client()
            for _ in 0..<20 {
                do {
                    let leaving = try await service.greeted()
                    var request = EbbLoad()
                    request.model = "tiny"
                    try leaving.send(2, .load(request))
                }
                let answer = try await staying.generate("tiny", prompt: "abc", options: short()).text()
                #expect(!answer.isEmpty)
                try await staying.unload("tiny")
            }
        }
    }

    @Test("Loads and unloads of one name, in any order, leave one truth")
    func churn() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for client in 0..<8 {
                    group.addTask {
                        let ebb = try await service.client()
                        for turn in 0..<20 {
                            do {
                                if (client + turn) % 2 == 0 {
                                    _ = try await ebb.load("tiny")
                                } else {
                                    try await ebb.unload("tiny")
                                }
                            } catch let error as ClientError {
                                // Unloaded by another one, before or meanwhile; or loads of many that were unloaded
                                // have not ended yet.
                                #expect(
                                    error.kind == .refused(.badRequest) || error.retryAfter != nil, "\(error)")
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            let ebb = try await service.client()
            let isListed = try await ebb.models().first?.loaded
            let names = try await ebb.status().models.map(\.name)
            #expect(names == (isListed == true ? ["tiny"] : []))
            _ = try await ebb.load("tiny")
            #expect(try await ebb.status().models.map(\.name) == ["tiny"])
        }
    }

    @Test("A load that fails is no obstacle to the next one")
    func failedLoad() async throws {
        let folder = try TinyModels.llama("tiny")
        let good = try Data(contentsOf: URL(fileURLWithPath: folder.file("tiny.ebb")))
        var bad = good
        bad[100] ^= 1
        try folder.write("tiny.ebb", Array(bad))
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            await #expect(throws: ClientError.self) { try await ebb.load("tiny") }
            try folder.write("tiny.ebb", Array(good))
            #expect(try await ebb.load("tiny").name == "tiny")
        }
    }

    @Test("A pipe among the models holds nobody up")
    func fifo() async throws {
        let folder = try TinyModels.llama("tiny")
        #expect(mkfifo(folder.file("pipe.ebb"), 0o600) == 0)
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            #expect(try await ebb.models().contains { $0.name == "tiny" && $0.error.isEmpty })
            await #expect(throws: ClientError.self) { try await ebb.load("pipe") }
            #expect(try await ebb.generate("tiny", prompt: "abc", options: short()).text().isEmpty == false)
        }
    }

    @Test("A list shows what has changed since the last one: new files, other files, damaged ones, none")
    func lists() async throws {
        let folder = try TinyModels.llama("a")
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let first = try await ebb.models()
            #expect(first.map(\.name) == ["a"] && first[0].architecture == "llama")
            try TinyModels.addBert("b", to: folder)
            #expect(try await ebb.models().map(\.architecture) == ["llama", "bert"])
            #expect(try await ebb.models().map(\.architecture) == ["llama", "bert"])
            var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: folder.file("b.ebb"))))
            bytes.append(0)
            try folder.write("b.ebb", bytes)
            for _ in 0..<2 {
                let damaged = try await ebb.models()[1]
                #expect(damaged.error.contains("damaged") && damaged.fileBytes == UInt64(bytes.count))
            }
            unlink(folder.file("b.ebb"))
            unlink(folder.file("a.ebb"))
            #expect(try await ebb.models().isEmpty)
        }
    }

    @Test("A name that leaves the folder, or is very long, names no model")
    func names() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            for name in ["../tiny", "", ".", "a/b", String(repeating: "x", count: 100_000), "tiny\0"] {
                do {
                    _ = try await ebb.load(name)
                    Issue.record("loaded \(name.prefix(20))")
                } catch let error as ClientError {
                    #expect(error.kind == .refused(.unknownModel) && error.description.utf8.count < 2000)
                }
            }
        }
    }

    @Test("Who may not control has so many models loaded in a minute, and others have theirs")
    func rate() {
        var rate = LoadRate()
        for second in 0..<LoadRate.most { #expect(rate.admit(1, now: Double(second)) == nil) }
        #expect(rate.admit(1, now: 10) == 50)
        #expect(rate.admit(2, now: 10) == nil)
        #expect(rate.admit(1, now: 60.5) == nil)
        #expect(rate.admit(1, now: 60.6) != nil)
        rate.forgive(1)
        #expect(rate.admit(1, now: 60.6) == nil)
    }
}

@Suite("What is remembered over restarts", .serialized)
struct StateTests {
    private func with(
        _ models: TemporaryFolder, state: String, _ body: @escaping @Sendable (EbbClient) async throws -> Void
    ) async throws {
        try await RunningService.with(models: models.path, configure: { $0.state = state }) { service in
            try await body(try await service.client())
        }
    }

    @Test("Preferences outlive the daemon, in a folder that it makes itself")
    func preferences() async throws {
        let (models, state) = (try TinyModels.llama("tiny"), try TemporaryFolder())
        let path = state.file("a/b/state")
        try await with(models, state: path) { ebb in
            // The folder is there before anything is kept: parked conversations go there too.
            #expect(access(path, W_OK) == 0)
            for priority in 0..<20 {
                try await ebb.prefer("tiny", .speed, priority: priority)
            }
        }
        try await with(models, state: path) { ebb in
            let model = try #require(try await ebb.models().first)
            #expect(model.preference == .speed && model.priority == 19)
        }
    }

    @Test("A second daemon leaves the folder to the first, and remembers nothing")
    func shared() async throws {
        let (models, state) = (try TinyModels.llama("tiny"), try TemporaryFolder())
        try await with(models, state: state.path) { ebb in
            try await ebb.prefer("tiny", .speed)
            try await with(models, state: state.path) { other in try await other.prefer("tiny", .memory) }
        }
        try await with(models, state: state.path) { ebb in
            let kept = try await ebb.models().first?.preference
            #expect(kept == .speed)
        }
    }

    @Test("A state file that is damaged, a pipe, or far too long costs the preferences, nothing else")
    func damaged() async throws {
        let models = try TinyModels.llama("tiny")
        for damage in ["{\"choices\": 7}", "no JSON", String(repeating: "[", count: 100_000), "long", "pipe"] {
            let state = try TemporaryFolder()
            let path = state.file("models.json")
            switch damage {
            case "pipe": #expect(mkfifo(path, 0o600) == 0)
            case "long": try state.write("models.json", [UInt8](repeating: 0x20, count: 5 << 20))
            default: try state.write("models.json", Array(damage.utf8))
            }
            try await with(models, state: state.path) { ebb in
                #expect(try await ebb.models().first?.preference == .accuracy)
                try await ebb.prefer("tiny", .memory)
            }
            try await with(models, state: state.path) { ebb in
                let kept = try await ebb.models().first?.preference
                #expect(kept == .memory)
            }
        }
    }
}
