import EbbClient
import EbbProtocol
import Foundation
import Governor
import Service
import Testing
import TestKit

@Suite("The service", .serialized)
struct ServiceTests {
    private func greedy(_ tokens: Int) -> GenerationOptions {
        var options = GenerationOptions.greedy
        options.maxTokens = tokens
        return options
    }

    /// Options that no sampler takes.
    private func cold() -> GenerationOptions {
        var options = GenerationOptions()
        options.temperature = -1
        return options
    }

    /// What a client is refused with when it loads a model.
    private func loadError(_ ebb: EbbClient, _ name: String) async -> ClientError? {
        do { _ = try await ebb.load(name) } catch { return error as? ClientError }
        return nil
    }

    private func unloadError(_ ebb: EbbClient, _ name: String) async -> ClientError? {
        do { try await ebb.unload(name) } catch { return error as? ClientError }
        return nil
    }

    /// What a client is refused with when it continues a prompt.
    private func promptError(_ ebb: EbbClient, _ prompt: String, _ options: GenerationOptions = .greedy) async
        -> ClientError?
    {
        do { _ = try await ebb.generate("smollm2", prompt: prompt, options: options).text() } catch {
            return error as? ClientError
        }
        return nil
    }

    @Test("A chat is answered, with its figures")
    func chat() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            var text = ""
            var summary: GenerationSummary?
            let question = ChatMessage(role: "user", content: "Name the capital of France.")
            for try await event in try await ebb.generate("smollm2", chat: [question], options: greedy(40)) {
                switch event {
                case .text(let piece): text += piece
                case .thinking, .call: Issue.record("nobody asked for channels")
                case .finished(let figures): summary = figures
                }
            }
            #expect(text.contains("Paris"))
            let figures = try #require(summary)
            #expect(figures.promptTokens > 20 && figures.generatedTokens > 3 && figures.prefillRate > 0)
        }
    }

    @Test("Many clients at once get what each would get alone")
    func manyClients() async throws {
        // In floats: batched sums have another order, and in memory_low a close call could fall the other way.
        try await RunningService.with(configure: {
            $0.defaultWish = .dequantized
            $0.grace = .seconds(5)
        }) { service in
            _ = try await service.client().load("smollm2")
            try await service.until("expanded") { $0.layers > 0 && $0.expanded == $0.layers }
            let prompts = [
                "The capital of France is", "Water boils at", "One, two, three,", "The sun is", "def fib(n):",
                "Once upon",
            ]
            let alone = try await service.client()
            var expected: [String] = []
            for prompt in prompts {
                expected.append(try await alone.generate("smollm2", prompt: prompt, options: greedy(12)).text())
            }
            let together = try await withThrowingTaskGroup(of: (Int, String).self) { group in
                for (index, prompt) in prompts.enumerated() {
                    group.addTask {
                        (
                            index,
                            try await service.client().generate("smollm2", prompt: prompt, options: self.greedy(12))
                                .text()
                        )
                    }
                }
                return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
            for (index, text) in expected.enumerated() {
                #expect(together[index]?.prefix(8) == text.prefix(8), "\(prompts[index])")
            }
        }
    }

    @Test("Equal seeds give equal texts, and a stop text ends one")
    func seedsAndStops() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            var options = GenerationOptions()
            options.maxTokens = 20
            options.seed = 11
            let first = try await ebb.generate("smollm2", prompt: "My favourite", options: options).text()
            #expect(try await ebb.generate("smollm2", prompt: "My favourite", options: options).text() == first)
            let word = try #require(first.split(separator: " ").dropFirst(3).first)
            options.stop = [String(word)]
            let cut = try await ebb.generate("smollm2", prompt: "My favourite", options: options).text()
            #expect(first.hasPrefix(cut) && !cut.contains(word))
        }
    }

    @Test("Leaving the loop cancels the work, and its memory comes back")
    func cancel() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            for try await event in try await ebb.generate("smollm2", prompt: "Count:", options: greedy(4000)) {
                if case .text = event { break }
            }
            try await service.until("the end of the request") { $0.active == 0 && $0.kvBytes == 0 }
        }
    }

    @Test("A client that vanishes takes its requests with it; others go on")
    func disconnect() async throws {
        try await RunningService.with { service in
            let staying = try await service.client()
            let leaving = try await service.client()
            let text = Task {
                try await staying.generate("smollm2", prompt: "The sea", options: self.greedy(60)).text()
            }
            let lost = Task {
                for try await _ in try await leaving.generate("smollm2", prompt: "Count:", options: self.greedy(4000)) {
                }
            }
            try await service.until("both running") { $0.active == 2 }
            try await leaving.close()
            let result = await lost.result
            #expect(throws: ClientError.self) { try result.get() }
            #expect(try await text.value.isEmpty == false)
            try await service.until("the end of the requests") { $0.active == 0 }
        }
    }

    @Test("Pressure in the middle of a generation moves the model to memory_low, and the generation finishes")
    func pressureMidStream() async throws {
        try await RunningService.with(configure: { $0.defaultWish = .auto }) { service in
            let ebb = try await service.client()
            _ = try await ebb.load("smollm2")
            try await service.until("all layers expanded") { $0.layers > 0 && $0.expanded == $0.layers }
            var pieces = 0
            var summary: GenerationSummary?
            for try await event in try await ebb.generate("smollm2", prompt: "Once upon a time", options: greedy(60)) {
                switch event {
                case .text:
                    pieces += 1
                    if pieces == 5 { service.source.say(.critical) }
                    if pieces == 6 { try await service.until("no layer expanded") { $0.expanded == 0 } }
                case .thinking, .call: Issue.record("nobody asked for channels")
                case .finished(let figures): summary = figures
                }
            }
            #expect(summary?.generatedTokens == 60)
            #expect((summary?.modeChanges ?? 0) >= 31)
            service.source.say(.nominal)
            try await service.until("all layers expanded again") { $0.expanded == $0.layers }
        }
    }

    @Test("A pinned mode stays, whatever the pressure")
    func pin() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            try await ebb.setMode("smollm2", .dequantized)
            service.source.say(.critical)
            try await service.until("all layers expanded") { $0.layers > 0 && $0.expanded == $0.layers }
            try await ebb.setMode("smollm2", .memoryLow)
            try await service.until("no layer expanded") { $0.expanded == 0 }
        }
    }

    @Test("Tokens come and go over the socket")
    func tokens() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            let ids = try await ebb.tokenize("smollm2", "Hello, world!")
            #expect(ids == [19556, 28, 905, 17])
            #expect(try await ebb.detokenize("smollm2", ids) == "Hello, world!")
        }
    }

    @Test("Models are listed, loaded and unloaded")
    func models() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            #expect(try await ebb.models().first { $0.name == "smollm2" }?.loaded == false)
            #expect(try await ebb.load("smollm2").architecture == "llama")
            #expect(try await ebb.models().first { $0.name == "smollm2" }?.loaded == true)
            try await ebb.unload("smollm2")
            #expect(try await ebb.models().first { $0.name == "smollm2" }?.loaded == false)
            #expect(await unloadError(ebb, "smollm2")?.kind == .refused(.badRequest))
            #expect(await unloadError(ebb, "nothing")?.kind == .refused(.unknownModel))
        }
    }

    @Test("What cannot be done is refused with a reason, and the daemon goes on")
    func refusals() async throws {
        try await RunningService.with { service in
            let ebb = try await service.client()
            let unknown = await loadError(ebb, "nothing")
            #expect(unknown?.kind == .refused(.unknownModel) && unknown?.description.contains("smollm2") == true)
            for name in ["../../etc/passwd", "", "a/b"] {
                #expect(await loadError(ebb, name)?.kind == .refused(.unknownModel))
            }
            let long = String(repeating: "word ", count: 9000)
            let full = await promptError(ebb, long)
            #expect(full?.kind == .refused(.contextFull))
            #expect(await promptError(ebb, "")?.kind == .refused(.badRequest))
            let bad = await promptError(ebb, "x", cold())
            #expect(bad?.kind == .refused(.badRequest) && bad?.description.contains("temperature") == true)
            #expect(try await ebb.generate("smollm2", prompt: "The sky is", options: greedy(3)).text().isEmpty == false)
        }
    }

    @Test("A damaged model is listed with its fault and refused, and the daemon goes on")
    func damagedModel() async throws {
        let folder = try TemporaryFolder()
        var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: try RealModel.smollm2.open().path)))
        bytes[100] ^= 1
        try folder.write("broken.ebb", bytes)
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            #expect(try await ebb.models().first?.error.contains("damaged") == true)
            #expect(await loadError(ebb, "broken")?.kind == .refused(.modelUnusable))
            #expect(try await ebb.ping() > .zero)
        }
    }

    @Test("A stop lets running requests end, and refuses new ones")
    func drain() async throws {
        let folder = try TemporaryFolder()
        try await RunningService.with(socket: folder.file("s"), configure: { $0.grace = .seconds(600) }) { service in
            let ebb = try await service.client()
            let running = Task { try await ebb.generate("smollm2", prompt: "The sea", options: self.greedy(80)).text() }
            try await service.until("the request") { $0.active == 1 }
            let stopping = Task { await service.service.stop() }
            var refused: ClientError?
            for _ in 0..<100 where refused == nil {
                refused = await promptError(ebb, "x", greedy(1))
            }
            #expect(refused?.kind == .refused(.shuttingDown))
            #expect(try await running.value.isEmpty == false)
            await stopping.value
        }
        #expect(folder.names.isEmpty)
    }
}
