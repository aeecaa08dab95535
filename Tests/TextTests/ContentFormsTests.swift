import TestKit
import Testing
import Text

@Suite("Forms of content that templates take")
struct ContentFormsTests {
    private static let parts = JSONValue.array([
        .object(["type": .string("text"), "text": .string("one")]),
        .object(["type": .string("text"), "text": .string("two")]),
    ])

    @Test("A message's text stands in every template's prompt, whether it came as a text or as parts")
    func templates() throws {
        var missing: [String] = []
        for (name, source) in try FetchedTemplates.sources() {
            let template = try ChatTemplate(source, bosText: "<bos>", eosText: "<eos>")
            let forms = ContentForms(template)
            for content in [JSONValue.string("one\ntwo"), Self.parts] {
                let message = ChatTemplate.message(role: "user", content: forms.fitting(content))
                guard let text = try? template.render(messages: [message], addGenerationPrompt: true) else { continue }
                let isWhole = text.contains("one") && text.contains("two") && !text.contains("'type'")
                if !isWhole { missing.append("\(name) \(forms): \(text.suffix(80).debugDescription)") }
            }
        }
        #expect(missing.isEmpty, "\(missing.joined(separator: "\n"))")
    }

    @Test("Parts that are no text stay, and a template that refuses a probe takes texts")
    func others() throws {
        let texts = ContentForms(try ChatTemplate("{{ messages[0].content + '' }}"))
        #expect(texts.takesText && !texts.takesParts)
        let image = JSONValue.array([.object(["type": .string("image")])])
        #expect(texts.fitting(image) == image)
        let refusing = ContentForms(try ChatTemplate("{{ raise_exception('no') }}"))
        #expect(refusing.takesText && !refusing.takesParts)
    }

    @Test("JSON is written as it was read, members in their order")
    func json() throws {
        let text = #"{"b": [1, 2.5, null, true, "a\"\\\n\u0001é"], "a": {}}"#
        #expect(try JSONValue(parsing: text).text == text)
    }
}
