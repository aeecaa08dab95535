import TestKit
import Testing
import Text

@Suite("Forms of messages that templates take")
struct MessageFormsTests {
    private static let parts = JSONValue.array([
        .object(["type": .string("text"), "text": .string("one")]),
        .object(["type": .string("text"), "text": .string("two")]),
    ])

    @Test("A message's text stands in every template's prompt, whether it came as a text or as parts")
    func templates() throws {
        var missing: [String] = []
        for (name, source) in try FetchedTemplates.sources() {
            let template = try ChatTemplate(source, bosText: "<bos>", eosText: "<eos>")
            let forms = MessageForms(template)
            for content in [JSONValue.string("one\ntwo"), Self.parts] {
                let message = forms.fitting(ChatTemplate.message(role: "user", content: content))
                guard let text = try? template.render(messages: [message], addGenerationPrompt: true) else { continue }
                let isWhole = text.contains("one") && text.contains("two") && !text.contains("'type'")
                if !isWhole { missing.append("\(name) \(forms): \(text.suffix(80).debugDescription)") }
            }
        }
        #expect(missing.isEmpty, "\(missing.joined(separator: "\n"))")
    }

    @Test("Parts that are no text stay, and a template that refuses a probe takes texts")
    func others() throws {
        let texts = MessageForms(try ChatTemplate("{{ messages[0].content + '' }}"))
        #expect(texts.takesText && !texts.takesParts)
        let parts = JSONValue.array([.object(["type": .string("image")])])
        let image = ChatTemplate.message(role: "user", content: parts)
        #expect(texts.fitting(image) == image)
        let refusing = MessageForms(try ChatTemplate("{{ raise_exception('no') }}"))
        #expect(refusing.takesText && !refusing.takesParts)
    }

    /// A call as OpenAI's API sends it, or with its arguments as an object.
    private static func call(_ arguments: JSONValue) -> JSONValue {
        let function: JSONValue = .object(["name": .string("clock"), "arguments": arguments])
        let call: JSONValue = .object([
            "id": .string("call00001"), "type": .string("function"), "function": function,
        ])
        return ChatTemplate.message(role: "assistant", content: .null, more: ["tool_calls": .array([call])])
    }

    @Test("A call without content is rendered alike, whether its arguments came as an object or as its text")
    func calls() throws {
        let arguments = #"{"zone": "UTC", "days": [1, 2]}"#
        let question = ChatTemplate.message(role: "user", content: "q")
        var (rendered, missing): (Int, [String]) = (0, [])
        for (name, source) in try FetchedTemplates.sources() {
            let template = try ChatTemplate(source, bosText: "<bos>", eosText: "<eos>")
            let forms = MessageForms(template)
            func render(_ arguments: JSONValue) -> String? {
                try? template.render(
                    messages: [question, Self.call(arguments)].map(forms.fitting), addGenerationPrompt: false, moment: 0
                )
            }
            let text = render(.string(arguments))
            if text != render(try JSONValue(parsing: arguments)) { missing.append("\(name): differs") }
            guard let text, text.contains("zone") else { continue }
            rendered += 1
            if text.contains("'zone'") || text.contains("\\\"zone") { missing.append("\(name): \(text.suffix(120))") }
        }
        print("calls as OpenAI sends them: \(rendered) of 70 templates render them")
        #expect(rendered > 50)
        #expect(missing.isEmpty, "\(missing.joined(separator: "\n"))")
    }

    @Test("JSON is written as it was read, members in their order")
    func json() throws {
        let text = #"{"b": [1, 2.5, null, true, "a\"\\\n\u0001é"], "a": {}}"#
        #expect(try JSONValue(parsing: text).text == text)
    }
}
