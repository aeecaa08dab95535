import Foundation
import OrderedCollections
import TestKit
import Testing
import Text

@Suite("Templates as Python's jinja2 renders them")
struct TemplateArbiterTests {
    /// The moment of `Tests/Templates/expect.py`.
    private static let moment = 1_722_000_307

    private static func render(_ template: ChatTemplate, _ talk: JSONValue) throws -> String {
        func list(_ key: String) -> [JSONValue] { if case .array(let items)? = talk[key] { items } else { [] } }
        var variables: OrderedDictionary<String, JSONValue> = [:]
        if case .object(let more)? = talk["variables"] { variables = more }
        return try template.render(
            messages: list("messages"), tools: list("tools"), variables: variables,
            addGenerationPrompt: talk["add_generation_prompt"] == .bool(true), timeLimit: .seconds(60), moment: moment)
    }

    /// What differs; nil where both say the same, or both refuse.
    private static func difference(_ line: JSONValue, _ source: String, _ talk: JSONValue) -> String? {
        let expected = line["rendered"]?.string
        do {
            let template = try ChatTemplate(source, bosText: "<bos>", eosText: "<eos>")
            let text = try render(template, talk)
            guard let expected else { return "rendered, not refused: \(line["error"]?.string ?? "")" }
            guard Array(text.utf8) != Array(expected.utf8) else { return nil }
            let same = zip(text.unicodeScalars, expected.unicodeScalars).prefix { $0 == $1 }.count
            func rest(_ text: String) -> String {
                String(String.UnicodeScalarView(text.unicodeScalars.dropFirst(max(0, same - 20)).prefix(80)))
            }
            return "wrote \(rest(text).debugDescription), not \(rest(expected).debugDescription)"
        } catch { return expected == nil ? nil : "refused: \(error)" }
    }

    @Test("Every template of llama.cpp renders every conversation byte for byte, or fails where jinja2 fails")
    func templates() throws {
        let sources = try FetchedTemplates.sources()
        let talks = try JSONValue(parsing: try FetchedTemplates.text("conversations.json"))
        var (equal, rendered) = (0, 0)
        var differences: [String] = []
        for text in try FetchedTemplates.text("expected.jsonl").split(separator: "\n") {
            let line = try JSONValue(parsing: String(text))
            let name = line["template"]?.string ?? ""
            let talk = line["conversation"]?.string ?? ""
            let source = try #require(sources[name])
            if let difference = Self.difference(line, source, try #require(talks[talk])) {
                differences.append("\(name), \(talk): \(difference)")
            } else {
                equal += 1
                if line["rendered"] != nil { rendered += 1 }
            }
        }
        print(
            "chat templates: \(equal) of \(equal + differences.count) as jinja2 has them, \(rendered) of these rendered"
        )
        #expect(sources.count == 70)
        #expect(rendered > 70 * 12)
        #expect(differences.isEmpty, "\(differences.joined(separator: "\n"))")
    }

    @Test("Every part of the language gives what it gives in jinja2")
    func language() throws {
        let talks = try JSONValue(parsing: try FetchedTemplates.text("conversations.json"))
        let talk = try #require(talks["parallel calls"])
        var differences: [String] = []
        for text in try FetchedTemplates.text("language.jsonl").split(separator: "\n") {
            let line = try JSONValue(parsing: String(text))
            let source = line["source"]?.string ?? ""
            if let difference = Self.difference(line, source, talk) { differences.append("\(source): \(difference)") }
        }
        #expect(differences.isEmpty, "\(differences.joined(separator: "\n"))")
    }
}
