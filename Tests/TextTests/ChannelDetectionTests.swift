import ModelFormat
import TestKit
import Testing

@testable import Text

@Suite("How a template's channels are found")
struct ChannelDetectionTests {
    private static func found(_ source: String) throws -> (thinking: String?, calls: String?)? {
        ChannelFormat.found(try ChatTemplate(source)).map { ($0.thinking, $0.calls) }
    }

    @Test("Channel: a template that marks nothing has no format")
    func none() throws {
        #expect(try Self.found("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}") == nil)
        #expect(try Self.found("") == nil)
        // A template that writes what it is given without marks, thinking and calls included.
        #expect(try Self.found("{{ messages }}") == nil)
    }

    @Test("Channel: marks that a template builds while it runs are found")
    func builtMarks() throws {
        let source = """
            {%- set t = 'tool' ~ '_call' -%}{%- for m in messages -%}{{ '<' ~ m.role ~ '>' }}\
            {%- for c in m.tool_calls or [] -%}{{ '<' ~ t ~ '>' ~ (c.function | tojson) ~ '</' ~ t ~ '>' }}{%- endfor -%}\
            {%- endfor -%}{%- if add_generation_prompt -%}<assistant>{%- endif -%}
            """
        let found = try #require(try Self.found(source))
        #expect(found.thinking == nil)
        #expect(found.calls == "<tool_call>JSON")
    }

    @Test("Channel: where a template leaves marks to the model, the vocabulary has them")
    func vocabulary() throws {
        let template = try ChatTemplate(
            "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{{ messages[-1].content }}")
        let found = ChannelFormat.found(template, isToken: { $0 == "<|tool_call_start|>" })
        #expect(found?.calls == "python list")
        #expect(ChannelFormat.found(template)?.calls == nil)
        // A template without tools has no use for them.
        let without = try ChatTemplate("{{ messages[-1].content }}")
        #expect(ChannelFormat.found(without, isToken: { _ in true }) == nil)
    }

    @Test("Channel: a template without an end is given up after some work, and has no format")
    func hostile() throws {
        let source = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
        #expect(try Self.found(source) == nil)
        // As much text as a template may write is not read by every format.
        let long = "{% for m in messages %}{{ m }}{% endfor %}{{ '<think>' * 100000 }}"
        #expect(try Self.found(long)?.calls == nil)
    }

    @Test("Channel: a model's own template and vocabulary give its format")
    func realModel() throws {
        let metadata = try GGUFFile(path: try RealModel.qwen2.path).metadata
        let tokenizer = try Tokenizer(metadata)
        let template = try #require(ChatTemplate.read(metadata, tokenizer: tokenizer).template)
        let format = try #require(ChannelFormat.find(template, tokenizer))
        #expect(format.thinking == nil)
        #expect(format.calls?.opens == ["<tool_call>"])
        let read = format.read("A\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>")
        #expect(read.answer == "A")
        #expect(read.calls == [ToolCall(name: "f", arguments: "{}")])
    }
}
