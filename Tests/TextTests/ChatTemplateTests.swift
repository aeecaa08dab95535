import Foundation
import ModelFormat
import Testing
import TestKit
import Text

@Suite("Chat templates")
struct ChatTemplateTests {
    @Test("All reference conversations render byte for byte", arguments: [RealModel.smollm2, .qwen2])
    func reference(model: RealModel) throws {
        let metadata = try GGUFFile(path: try model.path).metadata
        let template = try #require(ChatTemplate.read(metadata, tokenizer: try Tokenizer(metadata)).template)
        let url = Bundle.module.url(forResource: model.rawValue, withExtension: "jsonl", subdirectory: "Reference/chat")
        for line in try Reference.text(url).split(separator: "\n") {
            let json = try JSONValue(parsing: String(line))
            guard case .array(let messages)? = json["messages"] else { throw TextError("no messages") }
            var tools: [JSONValue] = []
            if case .array(let list)? = json["tools"] { tools = list }
            let rendered = try template.render(
                messages: messages, tools: tools, addGenerationPrompt: json["add_generation_prompt"] == .bool(true))
            #expect(Array(rendered.utf8) == Array((json["rendered"]?.string ?? "").utf8))
        }
    }

    private func render(_ source: String, _ messages: [JSONValue] = []) throws -> String {
        try ChatTemplate(source, bosText: "<s>", eosText: "</s>").render(messages: messages, addGenerationPrompt: true)
    }

    @Test(
        "The language's parts work as in Jinja",
        arguments: [
            ("{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 1 / 2 }}", "7 3 -4 2 0.5"),
            (
                "{% for x in [1,2,3] if x != 2 %}{{ loop.index }}:{{ x }}{% if not loop.last %},{% endif %}{% endfor %}",
                "1:1,2:3"
            ),
            ("{% for x in [] %}a{% else %}none{% endfor %}", "none"),
            ("{% for k, v in {'a': 1, 'b': [2]}.items() %}{{ k }}={{ v }};{% endfor %}", "a=1;b=[2];"),
            (
                "{% set ns = namespace(n=0) %}{% for x in range(4) %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}",
                "6"
            ),
            ("{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}", "1"),
            (
                "{{ ' a b '.strip() | upper }}|{{ 'a-b-c'.split('-')[-1] }}|{{ 'abc'[::-1] }}|{{ 'abcd'[1:3] }}",
                "A B|c|cba|bc"
            ),
            (
                "{{ x is defined }} {{ none is none }} {{ 3 is odd }} {{ 'a' in 'cat' }} {{ 'x' not in ['y'] }}",
                "False True True True True"
            ),
            ("{{ ['a', true, none, 1.5, {'k': 'ü'}] | tojson }}", "[\"a\", true, null, 1.5, {\"k\": \"ü\"}]"),
            ("{{ 'yes' if add_generation_prompt else 'no' }}{{ ' no' if false }}", "yes"),
            ("a\n  {%- if true %} b {%+ endif -%}\n c", "a b c"),
            ("{# note #}\n{% if true %}\nx\n{% endif %}\n", "x\n"),
            ("{{ bos_token ~ 1 ~ eos_token }}", "<s>1</s>"),
            ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
            (
                "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
                "02"
            ),
            ("{{ [3,1,2] | length }}{{ 'a,b' | replace(',', ';') }}{{ y | default('d') }}", "3a;bd"),
            ("{% set t %}in{% endset %}{{ t * 2 }}", "inin"),
        ])
    func language(source: String, expected: String) throws {
        #expect(try render(source) == expected)
    }

    @Test(
        "What is beyond the interpreter is refused when the template is read",
        arguments: [
            "{% macro f() %}", "{% include 'x' %}", "{{ x | nonsense }}", "{{ x is nonsense }}",
            "{% for x in y recursive %}{% endfor %}", "{% break %}", "{% if true %}", "{% endif %}", "{{ 'a }}",
            "{{ (1 }}", "{{ 1 ! 2 }}", "{{ [1, }",
            "{% for x %}{% endfor %}",
            "{{ '\\N' }}", "{{ '\\N{' }}", "{{ '\\N{}", "{{ '\\N{VS999999999999}' }}",
            "{{ '\\N{CJK UNIFIED IDEOGRAPH-D800}' }}",
            "{{ '\\N{" + String(repeating: "A", count: 100_000) + "}' }}",
            "{{ '" + String(repeating: "\\N{", count: 100_000) + "' }}",
        ])
    func refused(source: String) {
        #expect(throws: TextError.self) { try ChatTemplate(source) }
    }

    @Test("Deep nesting is refused, not a stack overflow")
    func deepNesting() {
        #expect(throws: TextError.self) { try ChatTemplate("{{ " + String(repeating: "(", count: 100_000) + "1") }
        #expect(throws: TextError.self) { try ChatTemplate(String(repeating: "{% if 1 %}", count: 100_000)) }
        #expect(throws: TextError.self) { try ChatTemplate("{{ " + String(repeating: "-", count: 100_000) + "1 }}") }
        #expect(throws: TextError.self) { try ChatTemplate("{{ 1" + String(repeating: " + 1", count: 100_000) + " }}") }
        #expect(throws: TextError.self) { try ChatTemplate("{{ x" + String(repeating: ".y", count: 100_000) + " }}") }
    }

    @Test("The longest tag that is read can also be run")
    func longestTag() throws {
        #expect(try render("{{ 1" + String(repeating: " + 1", count: 499) + " }}") == "500")
        #expect(try render("{{ 'a'" + String(repeating: " | trim", count: 499) + " }}") == "a")
    }

    @Test(
        "A template that runs or writes without end is stopped",
        arguments: [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{% for a in range(100000) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' * 1000 }}{% endfor %}",
            "{{ 'a' * 9999999999 }}",
        ])
    func bounded(source: String) throws {
        let template = try ChatTemplate(source)
        #expect(throws: TextError.self) { try template.render(messages: [], addGenerationPrompt: false) }
    }

    @Test("raise_exception ends the rendering with the template's own words")
    func raises() throws {
        let template = try ChatTemplate("{{ raise_exception('roles must alternate') }}")
        let error = #expect(throws: TextError.self) { try template.render(messages: [], addGenerationPrompt: false) }
        #expect(error?.description.contains("roles must alternate") == true)
    }

    @Test("Random changes to a real template never trap")
    func fuzz() throws {
        let metadata = try GGUFFile(path: try RealModel.qwen2.path).metadata
        let source = Array(try #require(metadata.string("tokenizer.chat_template")).unicodeScalars)
        var random = TestRandom(seed: 41)
        let parts = Array("{}%#'\"()[]|.+-* \n".unicodeScalars)
        for _ in 0..<500 {
            var changed = source
            for _ in 0..<4 {
                changed[Int.random(in: 0..<changed.count, using: &random)] = parts.randomElement(using: &random) ?? " "
            }
            var text = String.UnicodeScalarView()
            text.append(contentsOf: changed)
            guard let template = try? ChatTemplate(String(text)) else { continue }
            _ = try? template.render(
                messages: [.object(["role": .string("user"), "content": .string("x")])], addGenerationPrompt: true)
        }
    }
}
