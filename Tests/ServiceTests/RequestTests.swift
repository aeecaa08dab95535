import EbbClient
import EbbProtocol
import Service
import TestKit
import Testing

@Suite("What a request may hold, and what it is answered", .serialized)
struct RequestTests {
    private func failure(_ envelope: EbbEnvelope?) -> EbbFailure? {
        if case .failure(let failure)? = envelope?.body { return failure }
        return nil
    }

    private func tokenize(_ text: String) -> EbbEnvelope.OneOf_Body {
        var request = EbbTokenize()
        (request.model, request.text) = ("tiny", text)
        return .tokenize(request)
    }

    private func chat(_ messages: [(role: String, content: String, more: String)], tools: String = "") -> EbbGenerate {
        var request = EbbGenerate()
        (request.model, request.maxTokens) = ("tiny", 1)
        request.chat.messages = messages.map { parts in
            var message = EbbMessage()
            (message.role, message.content, message.moreJson) = parts
            return message
        }
        request.chat.toolsJson = tools
        return request
    }

    /// The answer to one request on a connection of its own.
    private func answer(_ service: RunningService, _ body: EbbEnvelope.OneOf_Body) async throws -> EbbEnvelope? {
        let raw = try await service.greeted()
        try raw.send(2, body)
        return try raw.receive()
    }

    @Test("Tokens come and go without a model being loaded")
    func tokensLoadNothing() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let ids = try await ebb.tokenize("tiny", "abcab")
            #expect(try await ebb.detokenize("tiny", ids) == "abcab")
            #expect(try await ebb.status().models.isEmpty)
            #expect(try await ebb.models().first?.loaded == false)
            _ = try await ebb.load("tiny")
            #expect(try await ebb.tokenize("tiny", "abcab") == ids)
        }
    }

    @Test("A number that is no token is refused by name", arguments: [-1, 1_000_000, Int32.max])
    func noToken(id: Int32) async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            var request = EbbDetokenize()
            (request.model, request.ids) = ("tiny", [3, id])
            let failure = failure(try await answer(service, .detokenize(request)))
            #expect(failure?.code == .badRequest && failure?.message.contains("\(id) is no token") == true)
        }
    }

    @Test("A request with id 0 is the last of its connection: its answer could not be told from a farewell")
    func noID() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            let raw = try await service.greeted()
            try raw.send(0, .ping(EbbPing()))
            let last = try raw.receive()
            #expect(last?.id == 0 && failure(last)?.code == .badRequest)
            #expect(try raw.receive() == nil)
        }
    }

    @Test("Equal reproducible requests give equal texts without a seed, too")
    func reproducible() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            var request = EbbGenerate()
            (request.model, request.prompt, request.maxTokens, request.reproducible) = ("tiny", "abcab", 40, true)
            request.sampling.temperature = 1
            var texts: Set<String> = []
            for _ in 0..<4 {
                let raw = try await service.greeted()
                try raw.send(2, .generate(request))
                var text = ""
                while let envelope = try raw.receive() {
                    if case .delta(let delta)? = envelope.body { text += delta.text } else { break }
                }
                texts.insert(text)
            }
            #expect(texts.count == 1 && texts.first != "")
        }
    }

    @Test("The tokenizer of a model that was replaced is the new one's")
    func replacedTokenizer() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let before = try await ebb.tokenize("tiny", "abc")
            try TinyModels.addLlama("tiny", to: folder) { $0.shiftVocabulary() }
            let after = try await ebb.tokenize("tiny", "abc")
            #expect(before != after && before.count == after.count)
        }
    }

    @Test("A chat of too many messages, or too much JSON, is refused before it is worked on")
    func bounds() async throws {
        let folder = try TinyModels.llama("tiny", template: "{% for m in messages %}{{ m.content }}{% endfor %}")
        try await RunningService.with(models: folder.path) { service in
            let empty = [(role: String, content: String, more: String)](repeating: ("", "", ""), count: 65_537)
            let json = "[" + String(repeating: "1,", count: 600_000) + "1]"
            let requests: [(EbbGenerate, String)] = [
                (chat(empty), "messages"), (chat([("user", "a", "")], tools: json), "tools_json"),
                (chat([("user", "a", json)]), "more_json"), (chat([("user", "a", "[1]")]), "more_json"),
                (chat([("user", "a", "")], tools: "{}"), "tools_json"),
            ]
            for (request, word) in requests {
                let refusal = failure(try await answer(service, .generate(request)))
                #expect(refusal?.code == .badRequest && refusal?.message.contains(word) == true, "\(word)")
                #expect(refusal?.retry == false)
            }
        }
    }

    @Test("Text has a limit, over everything in a request")
    func textLimit() async throws {
        let folder = try TinyModels.llama("tiny", template: "{% for m in messages %}{{ m.content }}{% endfor %}")
        try await RunningService.with(models: folder.path, configure: { $0.limits.maxTextBytes = 1000 }) { service in
            let long = String(repeating: "a", count: 1001)
            var prompt = EbbGenerate()
            (prompt.model, prompt.prompt) = ("tiny", long)
            var embed = EbbEmbed()
            (embed.model, embed.texts) = ("tiny", ["a", long])
            var rerank = EbbRerank()
            (rerank.model, rerank.query, rerank.documents) = ("tiny", String(long.dropFirst()), ["a"])
            var detokenize = EbbDetokenize()
            (detokenize.model, detokenize.ids) = ("tiny", [Int32](repeating: 1, count: 251))
            let parts = [(role: String, content: String, more: String)](repeating: ("user", "aaaa", ""), count: 20)
            for body: EbbEnvelope.OneOf_Body in [
                tokenize(long), .generate(prompt), .embed(embed), .rerank(rerank), .detokenize(detokenize),
                .generate(chat(parts)),
            ] {
                let refusal = failure(try await answer(service, body))
                #expect(refusal?.code == .badRequest && refusal?.message.contains("1000") == true)
            }
            guard case .tokens? = try await answer(service, tokenize("abc"))?.body else {
                Issue.record("no tokens")
                return
            }
        }
    }

    @Test("An answer that would be too large is refused, and the connection stays")
    func largeAnswers() async throws {
        let folder = try TemporaryFolder()
        try TinyModels.addLlama("tiny", to: folder) { $0.shiftVocabulary() }
        try await RunningService.with(models: folder.path) { service in
            let raw = try await service.greeted()
            // Two bytes for each token, one for each letter.
            try raw.send(2, tokenize(String(repeating: "a!", count: 1_100_000)))
            try raw.expectFailure(.badRequest)
            var request = EbbDetokenize()
            (request.model, request.ids) = ("tiny", [Int32](repeating: 1, count: 600_000))
            try raw.send(3, .detokenize(request))
            try raw.expectFailure(.badRequest)
            try raw.send(4, .ping(EbbPing()))
            guard case .pong? = try raw.receive()?.body else {
                Issue.record("no pong")
                return
            }
        }
    }

    @Test("A deadline counts from the request's arrival, before a token is run")
    func deadline() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            var request = EbbGenerate()
            (request.model, request.deadlineMs) = ("tiny", 1)
            request.prompt = String(repeating: "abc", count: 1_000_000)
            let refusal = failure(try await answer(service, .generate(request)))
            #expect(refusal?.code == .deadlineExceeded)
        }
    }

    @Test("A rendered template has the beginning that it writes itself, and no second one")
    func oneBeginning() async throws {
        let folder = try TemporaryFolder()
        let template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
        try TinyModels.addLlama("tiny", to: folder, template: template) { builder in
            builder.pairs.append(("tokenizer.ggml.bos_token_id", .uint32(150)))
            builder.pairs.append(("tokenizer.ggml.add_bos_token", .bool(true)))
            builder.pairs.append(
                ("tokenizer.ggml.token_type", .int32s((0..<Int32(TinyLlama.vocabulary)).map { $0 == 150 ? 3 : 1 })))
        }
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            var figures: GenerationSummary?
            let message = ChatMessage(role: "user", content: "abc")
            var options = GenerationOptions.greedy
            options.maxTokens = 1
            for try await event in try await ebb.generate("tiny", chat: [message], options: options) {
                if case .finished(let summary) = event { figures = summary }
            }
            #expect(figures?.promptTokens == (try await ebb.tokenize("tiny", "abc", addSpecial: true).count))
        }
    }

    @Test("A template sees a message's members in one order: role, content, the others as they came")
    func memberOrder() async throws {
        let folder = try TinyModels.llama(
            "tiny", template: "{% for m in messages %}{% for k in m %}{{ k }}{% endfor %}{% endfor %}")
        try await RunningService.with(models: folder.path) { service in
            // In another order of the letters, two of them would be one token.
            let more = "{\"c\": 1, \"content\": 2, \"b\": 3, \"a\": 4, \"role\": 5}"
            let ebb = try await service.client()
            var options = GenerationOptions.greedy
            options.maxTokens = 1
            var counts: Set<Int> = []
            for _ in 0..<20 {
                let message = ChatMessage(role: "user", content: "b", moreJSON: more)
                for try await event in try await ebb.generate("tiny", chat: [message], options: options) {
                    if case .finished(let summary) = event {
                        counts.insert(summary.promptTokens)
                        break
                    }
                }
            }
            let expected = try await ebb.tokenize("tiny", "rolecontentcba").count
            #expect(counts == [expected])
        }
    }

    @Test("Requests that are cancelled while their text waits are answered, each once")
    func cancelTexts() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path) { service in
            let raw = try await service.greeted()
            for id: UInt64 in 2..<18 { try raw.send(id, tokenize(String(repeating: "abc!", count: 50_000))) }
            for id: UInt64 in 2..<18 {
                var cancel = EbbCancel()
                cancel.request = id
                try raw.send(id + 100, .cancel(cancel))
            }
            var answers: [UInt64: Int] = [:]
            for _ in 0..<32 {
                let envelope = try #require(try raw.receive())
                answers[envelope.id, default: 0] += 1
                switch envelope.body {
                case .tokens?, .done?: break
                case .failure(let failure)?: #expect(failure.code == .cancelled)
                default: Issue.record("\(envelope)")
                }
            }
            #expect(answers.count == 32 && answers.values.allSatisfy { $0 == 1 })
            // What a thread is in the middle of ends a moment later.
            var texts: UInt64 = 1
            for _ in 0..<12_000 where texts > 0 {
                texts = try await service.service.status().ledger.first { $0.kind == "texts" }?.bytes ?? 0
                try await Task.sleep(for: .milliseconds(5))
            }
            #expect(texts == 0)
        }
    }

    @Test("A stop does not wait for texts beyond its grace")
    func stop() async throws {
        let folder = try TinyModels.llama("tiny")
        try await RunningService.with(models: folder.path, configure: { $0.grace = .milliseconds(1) }) { service in
            let raw = try await service.greeted()
            for id: UInt64 in 2..<18 { try raw.send(id, tokenize(String(repeating: "abc!", count: 200_000))) }
            guard case .tokens? = try raw.receive()?.body else {
                Issue.record("no tokens")
                return
            }
            await service.service.stop()
            while let envelope = try raw.receive() {
                if case .tokens? = envelope.body { continue }
                #expect(failure(envelope)?.code == .shuttingDown)
            }
        }
    }
}

@Suite("What users see of each other")
struct VisibilityTests {
    private func client(_ uid: UInt32, _ requests: UInt32) -> EbbClientStatus {
        var client = EbbClientStatus()
        (client.uid, client.requests, client.name) = (uid, requests, "app of \(uid)")
        return client
    }

    @Test("A user who may not control sees the own clients and requests alone")
    func status() {
        var all = EbbStatus()
        all.clients = [client(1000, 2), client(1001, 5), client(1000, 1)]
        (all.activeRequests, all.queuedRequests, all.connections) = (8, 3, 3)
        all.ledger = [EbbLedgerEntry()]
        var model = EbbModelStatus()
        (model.name, model.layers, model.mappedBytes) = ("m", 3, 100)
        (model.activeRequests, model.generatedTokens, model.prefixBytes, model.kvBytes) = (8, 100, 10, 10)
        all.models = [model]
        let seen = all.seen(by: 1000)
        #expect(seen.clients.map(\.uid) == [1000, 1000] && seen.connections == 2)
        #expect(seen.activeRequests == 3 && seen.queuedRequests == 0 && seen.ledger.isEmpty)
        #expect(seen.models[0].name == "m" && seen.models[0].layers == 3 && seen.models[0].mappedBytes == 100)
        #expect(seen.models[0].activeRequests == 0 && seen.models[0].generatedTokens == 0)
        #expect(seen.models[0].prefixBytes == 0 && seen.models[0].kvBytes == 0)
        #expect(all.seen(by: 7).clients.isEmpty)
    }

    @Test("Events tell of models and levels, not of how much others ask")
    func events() {
        var event = EbbEvent()
        (event.kind, event.what, event.model) = (.residency, "prefix_dropped", "m")
        (event.freedBytes, event.step, event.reason) = (4096, 17, "pressure")
        let seen = event.seenByUsers
        #expect(seen.model == "m" && seen.what == "prefix_dropped" && seen.reason == "pressure")
        #expect(seen.freedBytes == 0 && seen.step == 0)
    }
}

extension GGUFBuilder {
    /// Letters get numbers of two bytes: fillers come before them.
    mutating func shiftVocabulary() {
        guard let index = pairs.firstIndex(where: { $0.0 == "tokenizer.ggml.tokens" }),
            case .strings(let tokens) = pairs[index].1
        else { return }
        pairs[index].1 = .strings(Array(tokens.dropFirst(150)) + tokens.prefix(150))
    }
}
