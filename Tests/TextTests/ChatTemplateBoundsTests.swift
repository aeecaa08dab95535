import Foundation
import Testing
import TestKit
import Text

@Suite("Bounds of chat templates")
struct ChatTemplateBoundsTests {
    private func render(
        _ source: String, _ messages: [JSONValue] = [], timeLimit: Duration = .seconds(60)
    ) throws -> String {
        try ChatTemplate(source, bosText: "<s>").render(
            messages: messages, addGenerationPrompt: true, timeLimit: timeLimit)
    }

    /// Values of jinja2 3.1 with trim_blocks and lstrip_blocks.
    private static let jinja: [(String, String)] = [
        ("{% for m in [1] %}\r\n  <{{ m }}>\r\n{% endfor %}\r\nend\r\n", "  <1>\nend"),
        ("a\r{% if true %}\rb\r{% endif %}\r", "a\nb\n"),
        ("{{ 'x\r\ny' }}|{{ 'x\\r\\ny' }}|\r\n", "x\ny|x\r\ny|"),
        (
            "{{ 'abc'.replace('', '-') }} {{ 'abc'.replace('', '-', 2) }} {{ ''.replace('', '-') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'aaa' | replace('a', 'b', 1) }} {{ 'äöü'.replace('', '.') }}",
            "-a-b-c- -a-bc - bba baa .ä.ö.ü."
        ),
        ("{{ 'abcä' | reverse }} {{ [1, 2] | reverse | list }}", "äcba [2, 1]"),
        (
            "{{ ' a b  c '.split() }} {{ ' a b  c '.split(none, 1) }} {{ 'a,b,c'.split(',', 1) }} {{ 'aaa'.split('aa') }}",
            "['a', 'b', 'c'] ['a', 'b  c '] ['a', 'b,c'] ['', 'a']"
        ),
        ("{{ '\\x41\\u00e9\\U0001F600\\b' }}", "Aé\u{1f600}\u{8}"),
        (
            "{{ 'abcdef'[::9223372036854775807] }} {{ 'abcdef'[::-9223372036854775807] }} {{ [1,2,3][-9223372036854775807:2] }} {{ 'abc'[5:] }} {{ 'abcdef'[4:0:-2] }} {{ 'abc'[-1] }}",
            "a f [1, 2]  ec c"
        ),
        (
            "{{ range(5, 0, -2) | list }} {{ range(0) | list }} {{ range(3, 3) | list }} {{ range(0, 10, 100) | list }}",
            "[5, 3, 1] [] [] [0]"
        ),
        (
            "{{ 'abcabc'.find('ca') }} {{ 'abc'.find('x') }} {{ 'äbc'.find('c') }} {{ 'aab' in 'aaab' }} {{ 'abc'.find('') }}",
            "2 -1 2 True 0"
        ),
        ("{{ 'a\nb\n\nc' | indent(2) }}|{{ 'a\r\nb' | indent }}", "a\n  b\n\n  c|a\n    b"),
        (
            "{{ '12' | int }} {{ '9007199254740993' | int }} {{ 'x' | int }} {{ 3.9 | int }} {{ '1.5' | float }}",
            "12 9007199254740993 0 3 1.5"
        ),
        (
            "{{ 9007199254740993 == 9007199254740992 }} {{ 1 == 1.0 }} {{ 9007199254740993 > 9007199254740992 }}",
            "False True True"
        ),
        ("{{ 'x' * 3 }}{{ 'x' * 0 }}{{ 'x' * -1 }}{{ 2 * 'ab' }}", "xxxabab"),
        ("{{ [1, [2, {'a': 'b\\'c'}]] }} {{ {'k': none} }}", "[1, [2, {'a': \"b'c\"}]] {'k': None}"),
        ("{{ ['b', 'c'] | join(', ') }} {{ [] | join('x') }} {{ 'abc' | join('-') }}", "b, c  a-b-c"),
        ("{{ {'a': [1, 2], 'b': {}} | tojson(indent=2) }}", "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}"),
        ("{% set x %}a{% endset %}{{ x ~ x }}", "aa"),
        ("{{ 'Hello wORLD'.title() }} {{ 'hELLO' | capitalize }}", "Hello World Hello"),
    ]

    @Test("Ends of lines, empty texts and numbers at their limits are as in Jinja", arguments: jinja)
    func values(source: String, expected: String) throws {
        #expect(Array(try render(source).utf8) == Array(expected.utf8))
    }

    private static let tooMuch: [String] = [
        "{{ range(-9223372036854775807 - 1) }}", "{{ range(0, 9223372036854775807) }}", "{{ range(1, 2, 0) }}",
        "{{ -(-9223372036854775807 - 1) }}", "{{ (-9223372036854775807 - 1) | abs }}",
        "{{ (-9223372036854775807 - 1) // -1 }}", "{{ (-9223372036854775807 - 1) % -1 }}",
        "{{ 9223372036854775807 + 1 }}", "{{ 'ab' * 9223372036854775807 }}", "{{ 'abc'[::0] }}", "{{ 1 % 0 }}",
        // Nesting.
        "{% set n=namespace(x=[]) %}{% for i in range(300000) %}{% set n.x=[n.x] %}{% endfor %}{{ n.x }}",
        "{% set n=namespace(x={}) %}{% for i in range(300000) %}{% set n.x={'a': n.x} %}{% endfor %}{{ n.x | tojson }}",
        "{% set n=namespace(x=[1]) %}{% for i in range(99) %}{% set n.x=[n.x, n.x] %}{% endfor %}{{ n.x == n.x }}",
        "{% set n=namespace(x=[1]) %}{% for i in range(99) %}{% set n.x=[n.x, n.x] %}{% endfor %}{{ n.x }}",
        "{% set n=namespace(x=1) %}{% set n.x = n %}{{ n.x.x }}", "{% set n=namespace() %}{{ [n] }}",
        "{% set n=namespace() %}{{ namespace(a=n) }}", "{% set n=namespace() %}{{ {'a': n} }}",
        // Doubling.
        doubled("'aaaaaaaa'", "{% set s=s+s %}"),
        doubled("'aaaaaaaa'", "{% set s=s~s %}"),
        doubled("[1]", "{% set s=s+s %}"),
        doubled("'aaaaaaaa'", "{% set s=s.replace('a', 'aaaa') %}"),
        "{{ ('a' * 4000000).replace('', 'aaaaaaaaaaaa') }}", "{{ ('a' * 4000) | replace('a', 'b' * 4000000) }}",
        "{{ range(1000000) | join('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') }}",
        "{{ (range(9000) | list | tojson) * 500 }}", "{{ ('a\n' * 900000) | indent(64) }}",
        "{% for a in range(20) %}{% set x %}{{ 'a' * 8000000 }}{% endset %}{% endfor %}",
        // Long loops over little.
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(1000000) if a < 0 %}{% endfor %}{% for a in range(1000000) if a < 0 %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for a in range(100000) %}{{ s == s ~ '' }}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for a in range(100000) %}{{ s | length }}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for a in range(100000) %}{{ 'b' in s }}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for a in range(100000) %}{{ s[0] }}{% endfor %}",
        "{% set s = range(900000) %}{% for a in range(100000) %}{{ -1 in s }}{% endfor %}",
        "{% set s = range(9000) %}{% for a in range(100000) %}{{ s[::-1] | first }}{% endfor %}",
        // Filters that lay texts out.
        "{{ 'a' | wordwrap(0) }}", "{{ 'a' | wordwrap(-9223372036854775807 - 1) }}",
        "{{ ('a ' * 500000) | wordwrap(1, wrapstring='x' * 1000000) }}",
        "{{ {'a ': 1} | xmlattr }}", "{{ {'a' * 1000000 ~ '/': 1} | xmlattr }}", "{{ {'a>': 1} | xmlattr }}",
        "{{ {'a=': 1} | xmlattr }}", "{{ {'a' * 8000000: '<' * 1000000} | xmlattr }}",
        "{% set n=namespace(x=[1]) %}{% for i in range(99) %}{% set n.x=[n.x, n.x] %}{% endfor %}{{ n.x | pprint }}",
        "{% set n=namespace(x='a ' * 500000) %}{% for i in range(100) %}{% set n.x=[n.x] %}{% endfor %}{{ n.x | pprint }}",
        "{% set d=dict.fromkeys(range(100000) | list, 1) %}{{ ([d] * 10000) | pprint }}",
        "{% set n=namespace() %}{% set n.x = n | pprint %}{{ [n] | pprint }}",
        "{{ ('ab: ' * 300000) | urlize(extra_schemes=['ab:'] * 1000) }}",
        "{{ 'a.com' | urlize(target='<' * 3000000) }}",
        "{{ ('a.com ' * 10000) | urlize(target='<' * 10000) }}", "{{ 'a' | urlize(rel='a b ' * 1000000) }}",
        "{% for i in range(1000) %}{{ ('a' * 1000000) | random }}{% endfor %}",
    ]

    private static func doubled(_ first: String, _ step: String) -> String {
        "{% set s=\(first) %}" + String(repeating: step, count: 28) + "{{ s }}"
    }

    @Test("A template that asks for too much is stopped, with no trap", arguments: tooMuch)
    func stopped(source: String) throws {
        let template = try ChatTemplate(source)
        #expect(throws: TextError.self) {
            try template.render(messages: [], addGenerationPrompt: false, timeLimit: .seconds(60))
        }
    }

    private static let long = [
        "'http://'", "'@@@@'", "'a@'", "'('", "'<'", "'&lt;' | safe", "'.'", "'www.a.'", "'a.com:'", "'mailto:'", "'&'",
        "'http://['", "'-'", "'a-'", "'aa-bb-'", "'a--'", "'\\u00a0'", "' '", "'\\t\\n'", "'\\x01'", "'\"'", "'é'",
    ]

    @Test("What lays texts out takes time that grows with their lengths, whatever they are of", arguments: long)
    func longTexts(part: String) throws {
        let filters = [
            "urlize", "urlize(trim_url_limit=-9223372036854775807, extra_schemes=['http://', 'tel:'])", "wordwrap(1)",
            "wordwrap(3, false)", "wordwrap(500000)", "wordwrap(9223372036854775807)", "wordwrap(79, true, '', false)",
            "pprint", "wordcount",
        ]
        for filter in filters {
            // A budget may run out; naive searches would take minutes.
            _ = try? render("{{ ('x' ~ ((\(part)) * 50000) ~ 'x.com') | \(filter) }}")
            _ = try? render("{{ [('x' ~ ((\(part)) * 50000) ~ ' x')] | string | \(filter) }}")
        }
    }

    @Test("Values as deep as they may lie are laid out on a stack of 512 KiB, and each level but once")
    func deepValues() throws {
        let nested =
            "{% set n = namespace(x='y' * 90) %}{% for i in range(100) %}{% set n.x = {'k': [n.x, 'z' * 90]} if i % 2 else (n.x,) %}{% endfor %}"
        let done = DispatchSemaphore(value: 0)
        let thread = Thread {
            #expect((try? render(nested + "{{ n.x | pprint | length }}")) != nil)
            done.signal()
        }
        thread.stackSize = 512 << 10
        thread.start()
        done.wait()
    }

    @Test("Searching takes time that grows with the texts, not with their product")
    func searching() throws {
        // Naive search compares 2 x 10^12 bytes.
        let found = try render(
            "{% set s = 'a' * 2000000 %}{% set t = 'a' * 1000000 ~ 'b' %}{{ s.find(t) }} {{ t in s }} {{ s.split(t) | length }}"
        )
        #expect(found == "-1 False 1")
    }

    @Test("A template has a second, or what its caller grants")
    func time() throws {
        let template = try ChatTemplate("{% for a in range(100000) %}{% endfor %}")
        #expect(throws: Never.self) {
            try template.render(messages: [], addGenerationPrompt: false, timeLimit: .seconds(600))
        }
        let error = #expect(throws: TextError.self) {
            try template.render(messages: [], addGenerationPrompt: false, timeLimit: .zero)
        }
        #expect(error?.description.contains("too long") == true)
    }

    @Test("Long conversations render")
    func longConversation() throws {
        let text = String(repeating: "Words of a message. ", count: 3000)
        let messages = (0..<60).map { ChatTemplate.message(role: $0 % 2 == 0 ? "user" : "assistant", content: text) }
        let prompt = try render(
            "{% for m in messages[::1] %}{{ '<' + m.role + '>' + m['content'].split('</think>')[-1] | trim + '\n' }}{% endfor %}",
            messages)
        #expect(prompt.utf8.count > 60 * text.utf8.count)
    }

    @Test("Millions of empty messages are refused before they take memory")
    func manyMessages() throws {
        let messages = Array(repeating: ChatTemplate.message(role: "user", content: ""), count: 1_000_000)
        #expect(throws: TextError.self) { try render("{{ messages | length }}", messages) }
    }

    @Test("What a template or its messages nest as deep as they may fits a stack of 512 KiB")
    func smallStack() throws {
        var deep = JSONValue.array([])
        for _ in 0..<120 { deep = .array([deep]) }
        func repeated(_ before: String, _ count: Int, _ middle: String, _ after: String = "") -> String {
            String(repeating: before, count: count) + middle + String(repeating: after, count: count)
        }
        let sources: [String] = [
            repeated("(", 50, "1", ")"), repeated("[", 50, "1", "]") + " | tojson(indent=2)",
            "1" + repeated(" + 1", 499, ""), "'a'" + repeated(" | trim", 499, ""), "messages == messages",
            "messages | tojson", "messages", repeated("1 if false else ", 50, "2"), "[[(messages)]]",
        ].map { "{{ \($0) }}" }
        let nested = repeated("{% if true %}{% for a in [1] %}", 25, "{{ [[(messages)]] }}", "{% endfor %}{% endif %}")
        let messages = [deep]
        let failures = Failures()
        let thread = Thread {
            for source in sources + [nested] {
                do {
                    let template = try ChatTemplate(source)
                    _ = try template.render(messages: messages, addGenerationPrompt: true, timeLimit: .seconds(60))
                } catch { failures.add("\(source.prefix(60)): \(error)") }
            }
            failures.end()
        }
        thread.stackSize = 512 << 10
        thread.start()
        failures.wait()
        #expect(failures.all.isEmpty)
    }

    @Test("A message's members come in one order: the role, the content, then the others")
    func messageOrder() throws {
        let more = try JSONValue(parsing: #"{"name": "x", "content": null, "tool_calls": []}"#)
        guard case .object(let members) = more else { throw TextError("no object") }
        let message = ChatTemplate.message(role: "assistant", content: "y", more: members)
        #expect(
            try render("{{ messages | tojson }}", [message])
                == #"[{"role": "assistant", "content": null, "name": "x", "tool_calls": []}]"#)
    }
}

/// What went wrong on another thread.
private final class Failures: @unchecked Sendable {  // `lock` guards `all`; the semaphore orders the end
    private let lock = NSLock()
    private let done = DispatchSemaphore(value: 0)
    private var found: [String] = []

    var all: [String] { lock.withLock { found } }
    func add(_ failure: String) { lock.withLock { found.append(failure) } }
    func end() { done.signal() }
    func wait() { done.wait() }
}
