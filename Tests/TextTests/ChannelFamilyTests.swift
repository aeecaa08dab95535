import TestKit
import Testing

@testable import Text

/// An answer as a family writes it, and what is in it.
struct FamilyAnswer: Sendable, CustomTestStringConvertible {
    let thinking: String?
    let calls: String?
    var prompt = ""
    let text: String
    var read: (thinking: String, answer: String) = ("", "")
    var called: [ToolCall] = []

    var testDescription: String { "\(thinking ?? "–"), \(calls ?? "–"): \(String(text.prefix(40)).debugDescription)" }

    private static func call(_ name: String, _ arguments: String, _ id: String = "") -> ToolCall {
        ToolCall(name: name, arguments: arguments, id: id)
    }

    static let all: [FamilyAnswer] = thinkingOnly + json + tagged + several
    static let both = [call("f", #"{"x": "a"}"#), call("g", #"{"n": 2}"#)]

    static let thinkingOnly: [FamilyAnswer] = [
        FamilyAnswer(thinking: "<think>", calls: nil, text: "<think>\nT\n</think>\n\nA", read: ("T", "A")),
        FamilyAnswer(thinking: "<think>", calls: nil, prompt: "<think>\n", text: "T</think>A", read: ("T", "A")),
        FamilyAnswer(thinking: "<think>", calls: nil, text: "</think>A</think>", read: ("", "A</think>")),
        FamilyAnswer(
            thinking: "<think>", calls: nil, text: "<think>T</think><response>A</response>", read: ("T", "A")),
        FamilyAnswer(thinking: "[THINK]", calls: nil, text: "[THINK]T[/THINK]A", read: ("T", "A")),
        FamilyAnswer(
            thinking: "<|START_THINKING|>", calls: nil,
            text: "<|START_THINKING|>T<|END_THINKING|><|START_RESPONSE|>A<|END_RESPONSE|>", read: ("T", "A")),
        FamilyAnswer(
            thinking: "<|channel>thought", calls: nil, text: "<|channel>thought\nT\n<channel|>A", read: ("T", "A")),
        FamilyAnswer(
            thinking: "[BEGIN FINAL RESPONSE]", calls: nil, prompt: "Here are my reasoning steps:\n",
            text: "T\n[BEGIN FINAL RESPONSE]\nA\n[END FINAL RESPONSE]\n", read: ("T", "A")),
        FamilyAnswer(thinking: nil, calls: "harmony", text: "Plain", read: ("", "Plain")),
    ]

    static let json: [FamilyAnswer] = [
        FamilyAnswer(
            thinking: "<think>", calls: "<tool_call>JSON",
            text:
                "<think>\nT\n</think>\n\nA\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"a\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {\"n\": 2}}\n</tool_call>",
            read: ("T", "A"), called: both),
        FamilyAnswer(
            thinking: nil, calls: "[TOOL_CALLS]JSON",
            text:
                #"A[TOOL_CALLS][{"name": "f", "arguments": {"x": "a"}, "id": "i1"}, {"name": "g", "arguments": {"n": 2}}]B"#,
            read: ("", "AB"), called: [call("f", #"{"x": "a"}"#, "i1"), both[1]]),
        FamilyAnswer(
            thinking: "[THINK]", calls: "[TOOL_CALLS]name[ARGS]{}",
            text: #"[THINK]T[/THINK]A[TOOL_CALLS]f[ARGS]{"x": "a"}[TOOL_CALLS]g[CALL_ID]i2[ARGS]{"n": 2}"#,
            read: ("T", "A"), called: [both[0], call("g", #"{"n": 2}"#, "i2")]),
        FamilyAnswer(
            thinking: nil, calls: "bare JSON",
            text:
                "{\"name\": \"f\", \"parameters\": {\"x\": \"a\"}}; {\"type\": \"function\", \"name\": \"g\", \"parameters\": {\"n\": 2}}",
            called: both),
        FamilyAnswer(
            thinking: nil, calls: "bare JSON", text: #"<|python_tag|>{"name": "f", "parameters": {"x": "a"}}"#,
            called: [both[0]]),
        FamilyAnswer(
            thinking: nil, calls: "bare JSON", text: #"<|python_tag|>f.call(x="a")"#, called: [both[0]]),
        FamilyAnswer(
            thinking: nil, calls: "bare JSON", text: #"{"name": "Bob", "age": 5}"#,
            read: ("", #"{"name": "Bob", "age": 5}"#)),
        FamilyAnswer(
            thinking: nil, calls: "bare JSON", text: #"So: {"name": "f", "parameters": {}}"#,
            read: ("", #"So: {"name": "f", "parameters": {}}"#)),
        FamilyAnswer(
            thinking: nil, calls: "functools[JSON]",
            text: #"A functools[{"name": "f", "arguments": {"x": "a"}}, {"name": "g", "arguments": {"n": 2}}]"#,
            read: ("", "A "), called: both),
        FamilyAnswer(
            thinking: nil, calls: "<|tool_call|>JSON",
            text: #"<|tool_call|>[{"name": "f", "arguments": {"x": "a"}},{"name": "g", "arguments": {"n": 2}}]"#,
            called: both),
        FamilyAnswer(
            thinking: "<|START_THINKING|>", calls: "<|START_ACTION|>JSON", prompt: "<|START_THINKING|>",
            text:
                "T<|END_THINKING|><|START_ACTION|>[\n {\"tool_call_id\": \"0\", \"tool_name\": \"f\", \"parameters\": {\"x\": \"a\"}}\n]<|END_ACTION|>",
            read: ("T", ""), called: [call("f", #"{"x": "a"}"#, "0")]),
        FamilyAnswer(
            thinking: "<think>", calls: "DeepSeek R1",
            text:
                "<think>T</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"x\": \"a\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{\"n\": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            read: ("T", ""), called: both),
        FamilyAnswer(
            thinking: nil, calls: "DeepSeek V3.1",
            text:
                "A<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"x\": \"a\"}<｜tool▁call▁end｜><｜tool▁call▁begin｜>g<｜tool▁sep｜>{\"n\": 2}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            read: ("", "A"), called: both),
        FamilyAnswer(
            thinking: nil, calls: "<function=name>{}",
            text: #"A<function=f>{"x": "a"}</function><function=g>{"n": 2}</function>"#, read: ("", "A"), called: both),
        FamilyAnswer(
            thinking: nil, calls: "<|tools_prefix|>[{name: {}}]",
            text: #"A<|tools_prefix|>[{"f": {"x": "a"}}, {"g": {"n": 2}}]<|tools_suffix|>"#, read: ("", "A"),
            called: both),
    ]

    static let tagged: [FamilyAnswer] = [
        FamilyAnswer(
            thinking: "<think>", calls: "<function=> tags",
            text:
                "<think>T</think>A<tool_call>\n<function=f>\n<parameter=x>\na\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=g>\n<parameter=n>\n2\n</parameter>\n</function>\n</tool_call>",
            read: ("T", "A"), called: both),
        FamilyAnswer(
            thinking: nil, calls: "<arg_key> tags",
            text:
                "A\n<tool_call>f\n<arg_key>x</arg_key>\n<arg_value>a</arg_value>\n</tool_call><tool_call>g<arg_key>n</arg_key><arg_value>2</arg_value></tool_call><tool_call>now</tool_call>",
            read: ("", "A"), called: both + [call("now", "{}")]),
        FamilyAnswer(
            thinking: nil, calls: "<invoke> tags in <｜DSML｜tool_calls>",
            text:
                "A\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"x\" string=\"true\">5</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
            read: ("", "A"), called: [call("f", #"{"x": "5"}"#)]),
        FamilyAnswer(
            thinking: nil, calls: "tree of tags",
            text:
                "]<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name=\"f\">]<]minimax[>[<x>]<]minimax[>[<y>a</i>]<]minimax[>[</y>]<]minimax[>[</x>]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>",
            called: [call("f", #"{"x": {"y": "a</i>"}}"#)]),
        FamilyAnswer(
            thinking: nil, calls: "<param> tags in <function name=>",
            text:
                "A\n<function name=\"f\"><param name=\"x\"><![CDATA[a]]></param></function>\n<function name=\"g\"><param name=\"n\">2</param></function>",
            read: ("", "A"), called: both),
        FamilyAnswer(
            thinking: nil, calls: "python list",
            text:
                "A<|tool_call_start|>[f(x='a'), g(n=2), h(y=[None, {'k': \"it's\\n\"}], z=-1.5e3,)]<|tool_call_end|>B",
            read: ("", "AB"), called: both + [call("h", #"{"y": [null, {"k": "it's\n"}], "z": -1.5e3}"#)]),
        FamilyAnswer(
            thinking: "<|channel>thought", calls: "gemma",
            text:
                "<|channel>thought\nT<channel|><|tool_call>call:f{x:<|\"|>a<|\"|>}<tool_call|><|tool_call>call:g{n:2}<tool_call|>",
            read: ("T", ""), called: both),
    ]

    static let several: [FamilyAnswer] = [
        // Code is no JSON, though an object stands in it.
        FamilyAnswer(
            thinking: nil, calls: "functionary-3.2", prompt: ">>>", text: "python\nx = {\"a\": 1}\n"),
        FamilyAnswer(
            thinking: nil, calls: "harmony", prompt: "<|start|>assistant",
            text:
                "<|channel|>commentary to=functions.f<|message|>{\"x\": <|start|>assistant<|channel|>final<|message|>A<|return|>",
            read: ("", "A")),
        FamilyAnswer(
            thinking: nil, calls: "harmony", prompt: "<|start|>assistant",
            text:
                "<|channel|>analysis<|message|>T<|end|><|start|>assistant<|channel|>commentary<|message|>A<|end|><|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>{\"x\": \"a\"}<|call|><|start|>assistant<|channel|>commentary to=functions.g <|constrain|>json<|message|>{\"n\": 2}<|call|>",
            read: ("T", "A"), called: both),
        FamilyAnswer(
            thinking: nil, calls: "harmony", prompt: "<|start|>assistant",
            text: "<|channel|>final<|message|>A<|return|>",
            read: ("", "A")),
        FamilyAnswer(
            thinking: nil, calls: "functionary-3.2", prompt: ">>>",
            text: "all\nA\n>>> 1 + 1\n>>>f\n{\"x\": \"a\"}>>>g\n{\"n\": 2}",
            read: ("", "A\n>>> 1 + 1\n"), called: both),
        FamilyAnswer(
            thinking: nil, calls: "muse", prompt: "<|start|>assistant",
            text:
                " to=self<|message|>T<|eom|><|start|>assistant to=f<|message|><atem:function_calls>\n<atem:invoke name=\"f\">\n<atem:parameter name=\"x\">a</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|><|start|>assistant to=user<|message|>A<|eot|>",
            read: ("T", "A"), called: [both[0]]),
        FamilyAnswer(
            thinking: nil, calls: "kimi-k3", prompt: "<|open|>think<|sep|>",
            text:
                "T<|close|>think<|sep|><|open|>response<|sep|>A<|close|>response<|sep|><|open|>tools<|sep|><|open|>call tool=\"f\" index=\"1\"<|sep|><|open|>argument key=\"x\" type=\"string\"<|sep|>a<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>",
            read: ("T", "A"), called: [both[0]]),
        FamilyAnswer(
            thinking: nil, calls: "solar", prompt: "<|begin|>assistant",
            text:
                "<|think|>T<|end|><|begin|>assistant<|content|>A<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>i<|tool_call:name|>f<|tool_call:args|>{\"x\": \"a\"}<|tool_call:end|><|calls|>",
            read: ("T", "A"), called: [call("f", #"{"x": "a"}"#, "i")]),
        FamilyAnswer(
            thinking: nil, calls: "gigachat-3",
            text:
                "A<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"f\", \"arguments\": {\"x\": \"a\"}}<|message_sep|>\n\n",
            read: ("", "A"), called: [both[0]]),
    ]
}

@Suite("Channels as families of models write them")
struct ChannelFamilyTests {
    @Test("Channel: thinking, answer and calls of each family", arguments: FamilyAnswer.all)
    func family(_ vector: FamilyAnswer) throws {
        let format = try ChannelFormat.named(vector.thinking, vector.calls)
        let read = format.read(vector.text, prompt: vector.prompt)
        #expect(read.thinking == vector.read.thinking)
        #expect(read.answer == vector.read.answer)
        #expect(read.calls == vector.called)
    }

    @Test("Channel: an answer cut anywhere reads the same as in one piece", arguments: FamilyAnswer.all)
    func cutAnywhere(_ vector: FamilyAnswer) throws {
        let format = try ChannelFormat.named(vector.thinking, vector.calls)
        let whole = format.read(vector.text, prompt: vector.prompt)
        let scalars = Array(vector.text.unicodeScalars)
        func text(_ part: ArraySlice<Unicode.Scalar>) -> String { String(String.UnicodeScalarView(part)) }
        for cut in 0...scalars.count {
            var reader = ChannelReader(format, prompt: MarkedText(trusting: vector.prompt), offersTools: true)
            let first = reader.append(text(scalars[..<cut]), isPrinted: true)
            #expect(
                ReadAnswer(first + reader.append(text(scalars[cut...]), isPrinted: true) + reader.finish()) == whole)
        }
        var reader = ChannelReader(format, prompt: MarkedText(trusting: vector.prompt), offersTools: true)
        let pieces = scalars.flatMap { reader.append(String($0), isPrinted: true) }
        #expect(ReadAnswer(pieces + reader.finish()) == whole)
    }

    @Test(
        "Channel: an answer that ends anywhere has the calls that were complete, and no more",
        arguments: FamilyAnswer.all)
    func endAnywhere(_ vector: FamilyAnswer) throws {
        let format = try ChannelFormat.named(vector.thinking, vector.calls)
        let scalars = Array(vector.text.unicodeScalars)
        for end in 0...scalars.count {
            let read = format.read(String(String.UnicodeScalarView(scalars[..<end])), prompt: vector.prompt)
            #expect(read.calls == Array(vector.called.prefix(read.calls.count)))
            #expect(vector.read.thinking.hasPrefix(read.thinking) || read.calls.isEmpty)
        }
    }

    @Test("Channel: a tool's schema says which of its parameters in tags are strings")
    func strings() throws {
        let tool = try JSONValue(
            parsing: #"{"function": {"name": "f", "parameters": {"properties": {"x": {"type": "string"}, "y": {}}}}}"#)
        let text =
            "<tool_call>f<arg_key>x</arg_key><arg_value>5</arg_value><arg_key>y</arg_key><arg_value>5</arg_value></tool_call>"
        let format = try ChannelFormat.named(nil, "<arg_key> tags")
        var reader = ChannelReader(format, prompt: MarkedText(trusting: ""), tools: [tool])
        let pieces = reader.append(text, isPrinted: true) + reader.finish()
        #expect(ReadAnswer(pieces).calls == [ToolCall(name: "f", arguments: #"{"x": "5", "y": 5}"#)])
        #expect(format.read(text).calls == [ToolCall(name: "f", arguments: #"{"x": 5, "y": 5}"#)])
    }

    @Test("Channel: without tools, JSON that stands alone is an answer")
    func noTools() throws {
        let text = #"{"name": "f", "parameters": {"x": "a"}}"#
        let read = try ChannelFormat.named(nil, "bare JSON").read(text, offersTools: false)
        #expect(read.answer == text)
        #expect(read.calls.isEmpty)
    }

    @Test(
        "Channel: who writes about marks writes an answer: of thinking behind its first words, of calls without tools")
    func prose() throws {
        let format = try ChannelFormat.named("<think>", "<tool_call>JSON")
        let about = "Models write <think> before they reason, and </think> behind it."
        #expect(format.read(about).answer == about)
        #expect(format.read(about).thinking.isEmpty)
        let calls = #"They write <tool_call>{"name": "f", "arguments": {}}</tool_call>."#
        #expect(format.read(calls, offersTools: false).answer == calls)
        #expect(format.read(calls, offersTools: true).calls.count == 1)
    }

    @Test("Channel: a model that leaves its marks away calls the tools that were offered, and no others")
    func unmarked() throws {
        let format = try ChannelFormat.named(nil, "<tool_call>JSON")
        let tools = [JSONValue.object(["function": .object(["name": .string("f")])])]
        func read(_ text: String) -> [ChannelPiece] {
            var reader = ChannelReader(format, prompt: MarkedText(trusting: ""), tools: tools)
            return reader.append(text, isPrinted: true) + reader.finish()
        }
        let call = #"{"name": "f", "arguments": {"x": "}"}}"#
        #expect(read(call).compactMap(\.call) == [ToolCall(name: "f", arguments: #"{"x": "}"}"#)])
        #expect(read("\(call)\n\(call) Done").compactMap(\.call).count == 2)
        #expect(read("\(call) Done").last?.channel == .answer)
        let other = call.replacing("f", with: "g", maxReplacements: 1)
        #expect(read(other) == [ChannelPiece(channel: .answer, text: other)])
        #expect(read(call.replacing("}}", with: "")).map(\.channel) == [.toolCall])
    }
}
