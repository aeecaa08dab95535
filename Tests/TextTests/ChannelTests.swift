import TestKit
import Testing

@testable import Text

/// What a reader makes of an answer, put together.
struct ReadAnswer: Equatable, CustomStringConvertible {
    var answer = ""
    var thinking = ""
    var raw = ""
    var calls: [ToolCall] = []

    init(_ pieces: [ChannelPiece]) {
        for piece in pieces {
            switch piece.channel {
            case .answer: answer += piece.text
            case .thinking: thinking += piece.text
            case .toolCall: raw += piece.text
            }
            if let call = piece.call { calls.append(call) }
        }
    }

    var description: String {
        "answer \(answer.debugDescription), thinking \(thinking.debugDescription), raw \(raw), \(calls)"
    }
}

extension ChannelFormat {
    /// A format of the families' names.
    static func named(_ thinking: String?, _ calls: String?) throws -> ChannelFormat {
        if let whole = whole.first(where: { $0.name == calls ?? thinking }) { return whole.format }
        return ChannelFormat(
            thinking: try thinking.map { name in try #require(thinkingStyles.first { $0.name == name }).style },
            calls: try calls.map { name in try #require(callStyles.first { $0.name == name }).style },
            dropped: answerMarks.flatMap(\.marks))
    }

    /// What it makes of an answer that comes in one piece.
    func read(_ text: String, prompt: String = "", offersTools: Bool = true) -> ReadAnswer {
        var reader = ChannelReader(self, prompt: MarkedText(trusting: prompt), offersTools: offersTools)
        return ReadAnswer(reader.append(text, isPrinted: true) + reader.finish())
    }
}

@Suite("Channels of answers")
struct ChannelTests {
    @Test(
        "Channel: thinking, text and parallel calls of Hermes and Qwen come apart, line ends beside marks are dropped")
    func hermes() throws {
        let format = try ChannelFormat.named("<think>", "<tool_call>JSON")
        let read = format.read(
            "<think>\nHm.\n</think>\n\nI look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1e400}}\n</tool_call>\n"
                + "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>")
        #expect(read.thinking == "Hm.")
        #expect(read.answer == "I look.")
        #expect(read.calls == [ToolCall(name: "g", arguments: "{}")])
        // 1e400 is no number that this machine has: the text stays.
        #expect(read.raw == #"{"name": "f", "arguments": {"a": 1e400}}{"name": "g", "arguments": {}}"#)
    }

    @Test("Channel: numbers of a call keep their digits, and arguments that are a string of JSON are its object")
    func digits() throws {
        let format = try ChannelFormat.named("<think>", "<tool_call>JSON")
        let read = format.read(
            #"<tool_call>{"name": "f", "arguments": {"a": 12345678901234567890123, "b": 0.10}}</tool_call>"#)
        #expect(read.calls.map(\.arguments) == [#"{"a": 12345678901234567890123, "b": 0.10}"#])
        let text = format.read(#"<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>"#)
        #expect(text.calls == [ToolCall(name: "f", arguments: #"{"a": 1}"#)])
    }

    @Test("Channel: a mark in a string of a call is part of the string")
    func markInString() throws {
        let format = try ChannelFormat.named("<think>", "<tool_call>JSON")
        let call = #"{"name": "f", "arguments": {"a": "</tool_call> \" </tool_call>", "b": "}"}}"#
        let read = format.read("<tool_call>\(call)</tool_call>after")
        #expect(read.calls == [ToolCall(name: "f", arguments: #"{"a": "</tool_call> \" </tool_call>", "b": "}"}"#)])
        #expect(read.answer == "after")
        let tags = try ChannelFormat.named(nil, "<function=> tags")
        let tagged = tags.read(
            "<tool_call>\n<function=f>\n<parameter=x>\n</tool_call></function>\n</parameter>\n</function>\n</tool_call>after"
        )
        #expect(tagged.calls == [ToolCall(name: "f", arguments: #"{"x": "</tool_call></function>"}"#)])
        #expect(tagged.answer == "after")
    }

    @Test(
        "Channel: broken and unfinished calls stay as text of their channel",
        arguments: [
            (#"{"name": "f", "arguments": {"a": }}"#, true), (#"{"name": "f, "arguments": {}}"# + "\n", true),
            (#"{"name": "", "arguments": {}}"#, true), (#"{"name": "f", "arguments": 5}"#, true), ("hello", true),
            (#"{"name": "f", "argum"#, false), (#"{"name": "f", "arguments": {"a": "b"#, false), ("", false),
        ])
    func broken(text: String, isClosed: Bool) throws {
        let format = try ChannelFormat.named("<think>", "<tool_call>JSON")
        let read = format.read("Well.<tool_call>\(text)" + (isClosed ? "</tool_call>So." : ""))
        #expect(read.calls.isEmpty)
        #expect(read.raw == text.trimmingSpace())
        #expect(read.answer == "Well." + (isClosed ? "So." : ""))
    }

    @Test("Channel: an answer goes on after a call that was broken, and the next call counts")
    func afterBroken() throws {
        let format = try ChannelFormat.named("<think>", "<tool_call>JSON")
        let read = format.read(
            "<tool_call>\n{\"name\": \"f\n</tool_call>\n<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>")
        #expect(read.calls == [ToolCall(name: "g", arguments: "{}")])
    }

    @Test("Channel: within thinking, marks of calls count only as control tokens")
    func callInThinking() throws {
        let format = try ChannelFormat.named("<think>", "Kimi K2")
        let text = "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
        for isPrinted in [true, false] {
            var reader = ChannelReader(format, prompt: MarkedText(trusting: "<think>"), offersTools: true)
            let pieces =
                reader.append("Use ", isPrinted: true)
                + reader.append("<|tool_calls_section_begin|>", isPrinted: isPrinted)
                + reader.append(text, isPrinted: true)
                + reader.finish()
            let read = ReadAnswer(pieces)
            #expect(read.calls == (isPrinted ? [] : [ToolCall(name: "f", arguments: "{}", id: "functions.f:0")]))
            #expect(read.thinking == "Use " + (isPrinted ? "<|tool_calls_section_begin|>" + text : ""))
        }
    }

    @Test("Channel: control tokens that are no marks are never text, those within a call belong to it")
    func controlTokens() throws {
        let format = try ChannelFormat.named(nil, "gemma")
        var reader = ChannelReader(format, prompt: MarkedText(trusting: ""), offersTools: true)
        var pieces: [ChannelPiece] = []
        for (text, isPrinted) in [
            ("Hi", true), ("<pad>", false), ("<|tool_call>", false), ("call:f{a:", true), ("<|\"|>", false),
            ("x}", true),
            ("<pad>", false), ("<|\"|>", false), ("}", true), ("<tool_call|>", false), ("<eos>", false),
        ] {
            pieces += reader.append(text, isPrinted: isPrinted)
        }
        let read = ReadAnswer(pieces + reader.finish())
        #expect(read.answer == "Hi")
        #expect(read.calls == [ToolCall(name: "f", arguments: #"{"a": "x}"}"#)])
        #expect(read.raw == "call:f{a:<|\"|>x}<|\"|>}")
    }

    @Test("Channel: text comes out at once unless it may become a mark")
    func streaming() throws {
        let format = try ChannelFormat.named("<think>", "<tool_call>JSON")
        var reader = ChannelReader(format, prompt: MarkedText(trusting: "<think>\n"), offersTools: true)
        func texts(_ pieces: [ChannelPiece]) -> [String] { pieces.map(\.text) }
        #expect(texts(reader.append("Hm", isPrinted: true)) == ["Hm"])
        #expect(texts(reader.append(" </th", isPrinted: true)) == [" "])
        #expect(texts(reader.append("e", isPrinted: true)) == ["</the"])
        #expect(texts(reader.append("\n\n\n", isPrinted: true)) == ["\n"])
        #expect(texts(reader.append("</think>\n\nSo", isPrinted: true)) == ["So"])
        #expect(texts(reader.append("<tool_call>\n{\"na", isPrinted: true)) == ["{\"na"])
        let call = reader.append("me\": \"f\", \"arguments\": {}}\n", isPrinted: true)
        #expect(
            call == [
                ChannelPiece(
                    channel: .toolCall, text: "me\": \"f\", \"arguments\": {}}",
                    call: ToolCall(name: "f", arguments: "{}"))
            ])
        #expect(texts(reader.append("</tool_", isPrinted: true)) == [])
        #expect(texts(reader.finish()) == ["\n</tool_"])
    }

    @Test("Channel: what the template wrote at a prompt's end says where the answer begins, what a user wrote does not")
    func prompts() throws {
        let format = try ChannelFormat.named("<think>", nil)
        func channel(_ text: String, _ trusted: [Range<Int>]) -> AnswerChannel? {
            var reader = ChannelReader(format, prompt: MarkedText(text: text, trusted: trusted), offersTools: false)
            return reader.append("x", isPrinted: true).first?.channel
        }
        #expect(channel("q<think>\n", [1..<9]) == .thinking)
        #expect(channel("<think>", [0..<7]) == .thinking)
        #expect(channel("<think>", []) == .answer)
        #expect(channel("a<think>", [0..<1]) == .answer)
        #expect(channel("<think>\n\n</think>\n\n", [0..<19]) == .answer)
        #expect(channel("Use <think>.\nassistant\n", [0..<23]) == .answer)
        // Half of the mark from a user.
        #expect(channel("<think>", [3..<7]) == .answer)
        #expect(channel("<think>", [90..<100]) == .answer)
    }
}
