import Foundation
import TestKit
import Testing
import Text

@Suite("Faults of chat templates")
struct TemplateLanguageTests {
    private func error(_ source: String) -> String {
        do {
            _ = try ChatTemplate(source).render(messages: [], addGenerationPrompt: false, timeLimit: .seconds(60))
            return ""
        } catch { return "\(error)" }
    }

    @Test(
        "An error names the line of the template",
        arguments: [
            "a\n\n{{ x | nonsense }}", "a\n\n{{ x.y.z }}", "\n{% if true %}\n{{ 1 + 'a' }}{% endif %}", "\n\n{% for %}",
            "\n{{ 1 +\n + }}", "{% macro f() %}\n\n{{ 1 / 0 }}{% endmacro %}{{ f() }}",
            "{% macro f() %}\n\n\n{% endmacro %}\n{{ f() + 1 }}{# #}\n".replacingOccurrences(of: "\n\n\n", with: "\n"),
        ])
    func lines(source: String) { #expect(error(source).contains("(line 3)"), "\(error(source))") }

    @Test(
        "A template that calls itself, or holds itself, without end is stopped",
        arguments: [
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% macro f(n) %}{% if true %}{% for i in [1] %}{{ f(n + 1) }}{% endfor %}{% endif %}{% endmacro %}{{ f(0) }}",
            "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
            "{% macro f() %}{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}{% endmacro %}{{ f() }}",
            "{% for i in range(9) %}{{ [loop] }}{% endfor %}", "{% set n = namespace() %}{% set n.x = [n] %}",
            "{% set n = namespace(x=[]) %}{% for i in range(300000) %}{% set n.x = n.x.index %}{% set n.x = [n.x] %}{% endfor %}",
            "{% set n = namespace(x=0) %}{% for i in range(300000) %}{% set n.x = cycler(n.x) %}{% endfor %}",
            "{{ 'a'.center(9000000000000000000) }}", "{{ '%900000000d' % 1 }}", "{{ '%.99999999d' % 1 }}",
            "{{ '%.*x' % (9223372036854775807, 1) }}", "{{ '{:900000000}'.format(1) }}",
            "{{ 'a'.zfill(-9223372036854775808) }}{{ 'a' * 9223372036854775807 }}", "{{ 2 ** 64 }}", "{{ 1e308 ** 2 }}",
            "{{ ['a'] * 9223372036854775807 }}", "{{ range(9) | batch(9223372036854775807, 'x') | list }}",
            "{{ range(9) | slice(9223372036854775807) | list }}", "{{ '%*d' % (9223372036854775807, 1) }}",
            "{% set n = namespace(x=(1, 2)) %}{% for i in range(99) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1} }}",
            "{% set s = 'a' * 8000000 %}{% for i in range(1000000) %}{% set x = {s: i} %}{% endfor %}",
        ])
    func stopped(source: String) { #expect(!error(source).isEmpty) }

    @Test("Macros that are kept beyond their scope, and that keep each other, are let go without a trap")
    func chains() throws {
        let source =
            "{% set n = namespace(f=none) %}{% for i in range(20000) %}{% set before = n.f %}{% macro f() %}{{ before is none }}{% endmacro %}{% set n.f = f %}{% endfor %}{{ n.f() }}"
        #expect(
            try ChatTemplate(source).render(messages: [], addGenerationPrompt: false, timeLimit: .seconds(60))
                == "False")
    }

    @Test("Macros that call themselves as deep as they may fit a stack of 512 KiB")
    func smallStack() throws {
        let sources = [
            "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
            "{% macro f(n) %}{% if n %}{% for i in [n] %}{% set x %}{{ '%s' % (f(n + 1) | trim) }}{% endset %}{% endfor %}{% endif %}{% endmacro %}{{ f(1) }}",
            "{% macro f(n) %}{{ [{'a': (n, f([n]) ~ 'x')}] | tojson }}{% endmacro %}{{ f(0) }}",
            "{% set n = namespace(x=[1]) %}{% for i in range(75) %}{% set n.x = {'k': [n.x, 'a' * 90]} %}{% endfor %}{% macro f() %}{% if n.x | pprint %}{{ f() }}{% endif %}{% endmacro %}{{ f() }}",
            "{% macro g(n) %}{{ caller(n) }}{% endmacro %}{% macro f(n) %}{% call(m) g(n) %}{% filter upper %}{{ f(m) }}{% endfilter %}{% endcall %}{% endmacro %}{{ f(0) }}",
        ]
        let done = DispatchSemaphore(value: 0)
        let thread = Thread {
            for source in sources { #expect(error(source).contains("too deeply")) }
            done.signal()
        }
        thread.stackSize = 512 << 10
        thread.start()
        done.wait()
    }

    @Test("Random changes to the templates of llama.cpp never trap")
    func changes() throws {
        var random = TestRandom(seed: 16)
        let parts = Array("{}%#'\"()[]|.+-*, \n09_:=".unicodeScalars)
        let talk = try JSONValue(
            parsing:
                #"[{"role": "user", "content": "x"}, {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}]"#
        )
        guard case .array(let messages) = talk else { return }
        for (_, source) in try FetchedTemplates.sources() {
            let scalars = Array(source.unicodeScalars)
            for _ in 0..<12 {
                var changed = scalars
                for _ in 0..<3 {
                    let at = Int.random(in: 0..<changed.count, using: &random)
                    if Bool.random(using: &random) {
                        changed[at] = parts.randomElement(using: &random) ?? " "
                    } else {
                        changed.remove(at: at)
                    }
                }
                var text = String.UnicodeScalarView()
                text.append(contentsOf: changed)
                guard let template = try? ChatTemplate(String(text)) else { continue }
                _ = try? template.render(messages: messages, addGenerationPrompt: true)
            }
        }
    }
}
