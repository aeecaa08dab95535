import EbbClient
import EbbProtocol
import ModelFormat
import TestKit
import Testing
import Text

@testable import Service

@Suite("Channels of answers")
struct ChannelTests {
    /// A model that thinks first: its template opens the thinking itself.
    private static let thinking =
        "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
        + "{% if add_generation_prompt %}<think>{% endif %}"

    private static let calling = """
        {%- for t in tools or [] %}{{ t.function.name }}{% endfor -%}
        {%- for m in messages %}{{ m.content }}
        {%- for c in m.tool_calls or [] -%}
        <tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>
        {%- endfor %}{% endfor -%}
        """

    private static let question = [ChatMessage(role: "user", content: "abc")]

    private static var options: GenerationOptions {
        var options = GenerationOptions.greedy
        options.maxTokens = 12
        return options
    }

    @Test("A model that is thinking when the prompt ends thinks aloud, where the request tells channels apart")
    func thinkingModel() async throws {
        let folder = try TinyModels.llama("tiny", template: Self.thinking)
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            var options = Self.options
            let whole = try await ebb.generate("tiny", chat: Self.question, options: options).text()
            options.separatesChannels = true
            var (thought, answer) = ("", "")
            for try await event in try await ebb.generate("tiny", chat: Self.question, options: options) {
                switch event {
                case .thinking(let piece): thought += piece
                case .text(let piece): answer += piece
                case .call, .finished: break
                }
            }
            #expect(!whole.isEmpty && answer.isEmpty)
            // Line ends at the beginning belong to the mark.
            #expect(whole.hasSuffix(thought))
        }
    }

    @Test("A user who writes the mark at the end of the prompt does not make the model think")
    func userMark() async throws {
        let folder = try TinyModels.llama(
            "tiny", template: "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}")
        try await RunningService.with(models: folder.path) { service in
            let ebb = try await service.client()
            var options = Self.options
            options.separatesChannels = true
            let question = [ChatMessage(role: "user", content: "abc<think>")]
            for try await event in try await ebb.generate("tiny", chat: question, options: options) {
                if case .thinking = event { Issue.record("it thinks") }
            }
        }
    }

    /// What a model with the template of calls writes, as parts.
    private func parts(_ text: String, stop: [String] = []) throws -> [AnswerPart] {
        let folder = try TinyModels.llama("tiny", template: Self.calling)
        let metadata = try EbbFile(path: folder.file("tiny.ebb")).metadata
        let model = try ModelText(metadata)
        let format = try #require(model.chat.channels)
        let reader = ChannelReader(format, prompt: MarkedText(trusting: "abc"), offersTools: true)
        var answer = AnswerText(model.tokenizer, stop: stop, channels: reader)
        var parts: [AnswerPart] = []
        for id in model.tokenizer.encode(text, addSpecial: false, parseSpecial: false) { parts += answer.append(id) }
        return parts + answer.finish()
    }

    @Test("Calls are numbered, and their text stands in their channel without its marks")
    func calls() throws {
        let call = #"{"name":"clock","arguments":{"zone":"UTC"}}"#
        let parts = try parts("Now:<tool_call>\(call)</tool_call><tool_call>\(call)</tool_call>")
        #expect(parts.filter { $0.channel == .answer }.map(\.text).joined() == "Now:")
        #expect(parts.filter { $0.channel == .toolCall }.map(\.text).joined() == call + call)
        #expect(parts.compactMap(\.call?.number) == [0, 1])
        #expect(parts.compactMap(\.call?.call.name) == ["clock", "clock"])
        #expect(parts.compactMap(\.call?.call.arguments) == [#"{"zone":"UTC"}"#, #"{"zone":"UTC"}"#])
    }

    @Test("A stop text ends the answer also within a call, of which nothing is lost")
    func stop() throws {
        let parts = try parts(#"<tool_call>{"name":"clock",STOP"#, stop: ["STOP"])
        #expect(parts.map(\.text).joined() == #"{"name":"clock","#)
        #expect(parts.allSatisfy { $0.channel == .toolCall && $0.call == nil })
    }

    @Test("Deltas say their channel and their call, and a client makes events of them")
    func mapping() {
        let call = Text.ToolCall(name: "f", arguments: "{}", id: "x")
        let delta = EbbDelta(AnswerPart(text: "t", channel: .toolCall, call: (3, call)), tokens: 7)
        #expect(delta.text == "t" && delta.tokens == 7 && delta.channel == .toolCall && delta.hasCall)
        #expect(delta.call.index == 3 && delta.call.name == "f" && delta.call.argumentsJson == "{}")
        #expect(delta.call.id == "x")
        #expect(!EbbDelta(AnswerPart(text: "t"), tokens: 1).hasCall)
    }
}
