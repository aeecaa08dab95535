import EbbClient
import EbbProtocol
import Foundation
import ModelFormat
import Synchronization
import TestKit
import Testing

@testable import Service

@Suite("Adapters over the service", .serialized)
struct AdapterTests {
    private static func models() throws -> TemporaryFolder {
        let folder = try TinyModels.llama("tiny", "other")
        try TinyModels.addAdapter("one", for: "tiny", seed: 1, to: folder)
        try TinyModels.addAdapter("two", for: "tiny", seed: 2, to: folder)
        return folder
    }

    private static let prompt = String(repeating: "a quick brown fox ", count: 6)

    private static func options(_ adapters: [Adapter], tokens: Int = 12) -> GenerationOptions {
        var options = GenerationOptions.greedy
        (options.maxTokens, options.adapters) = (tokens, adapters)
        return options
    }

    private static func answer(_ ebb: EbbClient, _ adapters: [Adapter], model: String = "tiny") async throws -> String {
        try await ebb.generate(model, prompt: prompt, options: options(adapters)).text()
    }

    private static func error(_ body: () async throws -> Void) async -> ClientError? {
        do { try await body() } catch { return error as? ClientError }
        return nil
    }

    @Test("Each request has the adapters that it names, whoever runs beside it")
    func beside() async throws {
        let folder = try Self.models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let wanted: [[Adapter]] = [
                [], [Adapter("one")], [Adapter("two")], [Adapter("one", strength: -1)],
                [Adapter("two"), Adapter("one")],
            ]
            var alone: [String] = []
            for adapters in wanted { alone.append(try await Self.answer(ebb, adapters)) }
            #expect(Set(alone).count == wanted.count)
            let beside = try await withThrowingTaskGroup(of: (Int, String).self) { group in
                for index in 0..<20 {
                    group.addTask { (index, try await Self.answer(ebb, wanted[index % wanted.count])) }
                }
                return try await group.reduce(into: [(Int, String)]()) { $0.append($1) }
            }
            for (index, text) in beside { #expect(text == alone[index % wanted.count]) }
        }
    }

    @Test("An adapter of no strength is none, and the order of names does not count")
    func strengths() async throws {
        let folder = try Self.models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let plain = try await Self.answer(ebb, [])
            #expect(try await Self.answer(ebb, [Adapter("one", strength: 0)]) == plain)
            let both = try await Self.answer(ebb, [Adapter("one"), Adapter("two")])
            #expect(try await Self.answer(ebb, [Adapter("two"), Adapter("one")]) == both)
        }
    }

    @Test("A kept conversation is continued with the same adapters alone")
    func prefixes() async throws {
        let folder = try Self.models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            func reused(_ adapters: [Adapter]) async throws -> Int {
                for try await event in try await ebb.generate(
                    "tiny", prompt: Self.prompt, options: Self.options(adapters, tokens: 2))
                {
                    if case .finished(let summary) = event { return summary.reusedTokens }
                }
                return -1
            }
            #expect(try await reused([Adapter("one")]) == 0)
            #expect(try await reused([]) == 0)
            #expect(try await reused([Adapter("one", strength: 0.5)]) == 0)
            #expect(try await reused([Adapter("one")]) > 0)
            #expect(try await reused([]) > 0)
        }
    }

    @Test("Reproducible requests with adapters give equal texts beside others")
    func reproducible() async throws {
        let folder = try Self.models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            var options = Self.options([Adapter("one")], tokens: 20)
            (options.temperature, options.seed) = (1, 7)
            let wanted = options
            let first = try await ebb.generate("tiny", prompt: "abc", options: wanted).text()
            let texts = try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<6 {
                    group.addTask { try await ebb.generate("tiny", prompt: "abc", options: wanted).text() }
                    group.addTask {
                        _ = try await Self.answer(ebb, [Adapter("two")])
                        return first
                    }
                }
                return try await group.reduce(into: [String]()) { $0.append($1) }
            }
            for text in texts { #expect(text == first) }
        }
    }

    @Test(
        "What cannot be is refused by name",
        arguments: [
            ([Adapter("three")], "there are one, two"), ([Adapter("one", strength: 1000)], "-100 to 100"),
            ([Adapter("one", strength: .nan)], "-100 to 100"), ([Adapter("one"), Adapter("one")], "named twice"),
            ((0..<9).map { Adapter("a\($0)") }, "at most 8"), ([Adapter("../tiny")], "no adapter is named"),
        ])
    func refusals(adapters: [Adapter], word: String) async throws {
        let folder = try Self.models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let found = await Self.error { _ = try await Self.answer(ebb, adapters) }
            #expect(
                found?.kind == .refused(.badRequest) && found?.description.contains(word) == true,
                "\(found?.description ?? "none")")
            #expect(try await !Self.answer(ebb, []).isEmpty)
        }
    }

    @Test("An adapter that does not fit the model, or is none, is refused; one that is replaced is taken anew")
    func files() async throws {
        let folder = try Self.models()
        try TinyModels.addLlama("deep", layers: 1, to: folder)
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let misfit = await Self.error { _ = try await Self.answer(ebb, [Adapter("one")], model: "deep") }
            #expect(misfit?.kind == .refused(.modelUnusable) && misfit?.description.contains("blk.1") == true)
            let before = try await Self.answer(ebb, [Adapter("one")])
            try TinyModels.addAdapter("one", for: "tiny", seed: 9, to: folder)
            #expect(try await Self.answer(ebb, [Adapter("one")]) != before)
            try folder.write("adapters/one.ebb", [1, 2, 3])
            let broken = await Self.error { _ = try await Self.answer(ebb, [Adapter("one")]) }
            #expect(broken?.kind == .refused(.modelUnusable))
            #expect(try await !Self.answer(ebb, [Adapter("two")]).isEmpty)
        }
    }

    @Test("Models name their adapters, and the status those that are loaded")
    func listed() async throws {
        let folder = try Self.models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let models = try await ebb.models()
            #expect(models.first { $0.name == "tiny" }?.adapters == ["one", "two"])
            #expect(models.first { $0.name == "other" }?.adapters == [])
            _ = try await Self.answer(ebb, [Adapter("two")])
            let status = try await ebb.status()
            #expect(status.models.first { $0.name == "tiny" }?.adapters == ["two"])
        }
    }

    @Test("What is listed follows the files: another adapter of the same name, one less, and one that is damaged")
    func changes() async throws {
        let folder = try Self.models()
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            func listed(_ model: String) async throws -> [String]? {
                try await ebb.models().first { $0.name == model }?.adapters
            }
            #expect(try await listed("tiny") == ["one", "two"])
            try TinyModels.addAdapter("one", for: "other", seed: 3, to: folder)
            #expect(try await listed("tiny") == ["two"])
            #expect(try await listed("other") == ["one"])
            try FileManager.default.removeItem(atPath: folder.file("adapters/two.ebb"))
            #expect(try await listed("tiny") == [])
            try folder.write("adapters/one.ebb", [1, 2, 3])
            #expect(try await listed("other") == [])
        }
    }
}

@Suite("Readings of a folder's files")
struct FolderReadingsTests {
    private final class Names: Sendable {
        private let all = Mutex<[String]>([])
        func add(_ name: String) { all.withLock { $0.append(name) } }
        var list: [String] { all.withLock { $0 } }
    }

    @Test("A file is read once, and again when it is another; one that cannot be used stays so until then")
    func once() throws {
        let folder = try TinyModels.llama("a", "b")
        try folder.write("c.ebb", [1, 2, 3])
        let read = Names()
        let readings = FolderReadings(ModelStore(folder: folder.path)) { file in
            let name = file.path.split(separator: "/").last.map(String.init) ?? ""
            read.add(name)
            return name
        }
        for _ in 0..<3 {
            let found = try readings.scan {}
            #expect(found.map(\.value) == ["a.ebb", "b.ebb", nil])
            #expect(found.map(\.problem.isEmpty) == [true, true, false])
        }
        #expect(read.list == ["a.ebb", "b.ebb"])
        try TinyModels.addLlama("b", layers: 1, to: folder)
        try TinyModels.addLlama("c", to: folder)
        #expect(try readings.scan {}.map(\.value) == ["a.ebb", "b.ebb", "c.ebb"])
        #expect(read.list == ["a.ebb", "b.ebb", "b.ebb", "c.ebb"])
    }
}
