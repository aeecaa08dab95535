import Conversion
import Foundation
import ModelFormat
import TestKit
import Testing

@Suite("ebbctl render", .serialized)
struct RenderTests {
    private let folder: TemporaryFolder
    private let daemon: Child
    private let socket: String

    init() throws {
        folder = try TemporaryFolder()
        let source = try folder.write(
            "tiny.gguf",
            TinyLlama.gguf {
                $0.pairs.append(
                    (
                        "tokenizer.chat_template",
                        .string("{% for m in messages %}{{ m | tojson }}{% endfor %}{{ mood }}")
                    ))
            })
        try ModelImport(try ModelSources.open(source)).write(to: folder.file("tiny.ebb"))
        socket = folder.file("s")
        daemon = try Child(
            "ebbd", ["--socket", socket, "--models", folder.path, "--state", folder.file("state")], environment: [:],
            folder: folder)
        let path = socket
        try Programs.wait("the socket") { access(path, F_OK) == 0 }
    }

    private func render(_ messages: String, _ options: String...) throws -> Programs.Outcome {
        let outcome = try Programs.run(
            "ebbctl", ["render", "tiny", "--messages", "-", "--socket", socket] + options, input: messages)
        return outcome
    }

    @Test("A file of messages becomes the prompt, members in their order, with the variables that were named")
    func prompt() throws {
        let call = #"{"role": "assistant", "content": null, "tool_calls": [{"z": 1, "a": [2.5, "é"]}]}"#
        let outcome = try render(
            #"[{"role": "user", "content": "a \" b"}, \#(call)]"#, "--var", "mood=glad", "--no-generation-prompt")
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(outcome.output == #"{"role": "user", "content": "a \" b"}\#(call)glad"#)
    }

    @Test("Tokens are numbers, and JSON has both")
    func tokens() throws {
        let messages = #"[{"role": "user", "content": "abc"}]"#
        let numbers = try render(messages, "--tokens").output.split { " \n".contains($0) }.map { Int($0) }
        #expect(!numbers.isEmpty && !numbers.contains(nil))
        let json = try JSONSerialization.jsonObject(with: Data(try render(messages, "--json").output.utf8))
        let members = try #require(json as? [String: Any])
        #expect(members["tokens"] as? [Int] == numbers.compactMap { $0 })
        #expect((members["prompt"] as? String)?.contains("abc") == true)
    }

    @Test("Messages that are none are refused with what was expected")
    func refusals() throws {
        for (messages, word) in [
            ("{}", "list of messages"), ("[1]", "message 1"), (#"[{"role": "user", "content": 5}]"#, "message 1"),
            ("[", "byte 1"), ("", "byte 0"),
        ] {
            let outcome = try render(messages)
            #expect(outcome.code == 9 && outcome.errors.contains(word), "\(outcome.errors)")
        }
        #expect(try render("[]", "--var", "x").code == 64)
    }
}
