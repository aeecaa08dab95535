import EbbClient
import EbbProtocol
import ModelFormat
import Service
import TestKit
import Testing

@Suite("Prompts as templates make them")
struct RenderTests {
    /// Text between brackets, and what else was said.
    private static let template = """
        {%- for m in messages -%}[{{ m.role }}:{{ m.content }}]{%- endfor -%}
        {%- for t in tools or [] -%}({{ t.name }}){%- endfor -%}
        {%- if thinking is defined -%}thinking={{ thinking | tojson }};{%- endif -%}
        {%- if level is defined -%}level={{ level }};{%- endif -%}
        {%- if add_generation_prompt -%}[assistant:{%- endif -%}
        """

    /// Parts only, as templates for images are written.
    private static let partsTemplate =
        "{% for m in messages %}{% for p in m.content %}{{ p.type }}={{ p.text }};{% endfor %}{% endfor %}"

    private static let hello = [ChatMessage(role: "user", content: "Hello")]

    private func refusal(_ body: () async throws -> Void) async -> ClientError? {
        do {
            try await body()
            return nil
        } catch { return error as? ClientError }
    }

    @Test(
        "A conversation is rendered by its model's template, without the model being loaded, with its tokens if wanted")
    func rendering() async throws {
        let folder = try TinyModels.llama("tiny", template: Self.template)
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let prompt = try await ebb.render("tiny", chat: Self.hello)
            #expect(prompt.text == "[user:Hello][assistant:" && prompt.tokens.isEmpty)
            var options = TemplateOptions()
            options.toolsJSON = #"[{"name": "clock"}]"#
            let other = try await ebb.render(
                "tiny", chat: Self.hello, template: options, addGenerationPrompt: false, tokens: true)
            #expect(other.text == "[user:Hello](clock)")
            #expect(other.tokens == (try await ebb.tokenize("tiny", other.text, addSpecial: false)))
            #expect(try await ebb.status().models.isEmpty)
        }
    }

    @Test("Variables come from the request before the settings for the model, and these before those for all models")
    func variables() async throws {
        let folder = try TinyModels.llama("tiny", "other", template: Self.template)
        let json = #"{"templateVariables": {"*": {"level": "low"}, "tiny": {"thinking": true, "level": "high"}}}"#
        let settings = try Settings(Array(json.utf8), name: "s", machine: 1 << 30)
        try await RunningService.with(
            models: folder.path, configure: { $0.templateVariables = settings.templateVariables }
        ) { service in
            let ebb = try await service.client()
            #expect(try await ebb.render("other", chat: []).text == "level=low;[assistant:")
            #expect(try await ebb.render("tiny", chat: []).text == "thinking=true;level=high;[assistant:")
            var options = TemplateOptions()
            options.variablesJSON = #"{"thinking": [1, null]}"#
            #expect(
                try await ebb.render("tiny", chat: [], template: options).text
                    == "thinking=[1, null];level=high;[assistant:")
        }
    }

    @Test("Variables that a request says otherwise, and JSON of another kind, are refused by name")
    func badVariables() async throws {
        let folder = try TinyModels.llama("tiny", template: Self.template)
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            for (json, word) in [
                (#"{"messages": []}"#, "messages"), (#"{"bos_token": "x"}"#, "bos_token"), ("[1]", "variables_json"),
                ("{", "JSON"),
            ] {
                var options = TemplateOptions()
                options.variablesJSON = json
                let error = await refusal { _ = try await ebb.render("tiny", chat: Self.hello, template: options) }
                #expect(error?.description.contains(word) == true, "\(json)")
            }
            let both = await refusal {
                var message = ChatMessage(role: "user", content: "a")
                message.partsJSON = #"[{"type": "text", "text": "b"}]"#
                _ = try await ebb.render("tiny", chat: [message])
            }
            #expect(both?.description.contains("parts_json") == true)
        }
    }

    @Test(
        "Content may be parts: a template that takes texts gets them as one, one that takes parts gets texts as a part")
    func parts() async throws {
        let folder = try TinyModels.llama("texts", template: Self.template)
        try TinyModels.addLlama("parts", to: folder, template: Self.partsTemplate)
        let parts = ChatMessage(
            role: "user", partsJSON: #"[{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]"#)
        let image = ChatMessage(role: "user", partsJSON: #"[{"type": "image_url"}, {"type": "text", "text": "what?"}]"#)
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            #expect(try await ebb.render("texts", chat: [parts]).text == "[user:one\ntwo][assistant:")
            #expect(try await ebb.render("parts", chat: [parts]).text == "text=one;text=two;")
            #expect(try await ebb.render("parts", chat: Self.hello).text == "text=Hello;")
            #expect(try await ebb.render("parts", chat: [image]).text == "image_url=;text=what?;")
            let error = await refusal { _ = try await ebb.generate("parts", chat: [image]).text() }
            #expect(error?.description.contains("image_url") == true)
        }
    }

    @Test("What a user writes is text, unless the request trusts it")
    func trust() async throws {
        let folder = try TemporaryFolder()
        try TinyModels.addLlama("tiny", to: folder, template: Self.template) { builder in
            builder.pairs.append(
                ("tokenizer.ggml.token_type", .int32s((0..<Int32(TinyLlama.vocabulary)).map { $0 == 290 ? 3 : 1 })))
        }
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            let message = [ChatMessage(role: "user", content: "<filler290>")]
            var options = TemplateOptions()
            #expect(
                try await ebb.render("tiny", chat: message, template: options, tokens: true).tokens.contains(290)
                    == false)
            options.trustsText = true
            #expect(try await ebb.render("tiny", chat: message, template: options, tokens: true).tokens.contains(290))
        }
    }

    @Test("A model without a template, or with one that cannot be used, says what to do")
    func noTemplate() async throws {
        let folder = try TinyModels.llama("base")
        try TinyModels.addLlama("broken", to: folder, template: "{% include 'x' %}")
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            for model in ["base", "broken"] {
                let error = await refusal { _ = try await ebb.render(model, chat: Self.hello) }
                #expect(error?.description.contains("--chat-template") == true, "\(model)")
                #expect(error?.description.contains("include") == (model == "broken"))
            }
            let unknown = await refusal { _ = try await ebb.render("none", chat: Self.hello) }
            #expect(unknown?.kind == .refused(.unknownModel))
        }
    }

    @Test("Messages to render are counted before they are decoded")
    func bounds() async throws {
        let folder = try TinyModels.llama("tiny", template: Self.template)
        try await RunningService.with(models: folder.path) { service in
            let raw = try await service.greeted()
            var request = EbbRender()
            request.model = "tiny"
            request.chat.messages = [EbbMessage](repeating: EbbMessage(), count: EbbProtocol.maxMessages + 1)
            try raw.send(2, .render(request))
            guard case .failure(let failure)? = try raw.receive()?.body else {
                Issue.record("no failure")
                return
            }
            #expect(failure.code == .badRequest && failure.message.contains("messages"))
        }
    }
}
