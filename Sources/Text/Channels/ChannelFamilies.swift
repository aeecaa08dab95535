/// The ways in which models mark thinking and calls. What is special comes before what is general: the first that reads
/// back what a template writes is the template's.
extension ChannelFormat {
    /// Formats that cannot be put together from the parts below.
    static let whole: [(name: String, format: ChannelFormat)] = [
        ("harmony", harmony), ("muse", muse), ("functionary-3.2", functionary), ("kimi-k3", kimiK3), ("solar", solar),
        ("gigachat-3", gigaChat),
    ]

    static let thinkingStyles: [(name: String, style: ThinkingStyle)] = [
        ("<think>", ThinkingStyle("<think>", "</think>")),
        ("[THINK]", ThinkingStyle("[THINK]", "[/THINK]")),
        ("<seed:think>", ThinkingStyle("<seed:think>", "</seed:think>")),
        ("<mm:think>", ThinkingStyle("<mm:think>", "</mm:think>")),
        ("<think:opensource>", ThinkingStyle("<think:opensource>", "</think:opensource>")),
        ("<|START_THINKING|>", ThinkingStyle("<|START_THINKING|>", "<|END_THINKING|>")),
        ("<|channel>thought", ThinkingStyle("<|channel>thought", "<channel|>")),
        ("<|inner_prefix|>", ThinkingStyle("<|inner_prefix|>", "<|inner_suffix|>")),
        (
            "[BEGIN FINAL RESPONSE]",
            ThinkingStyle("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]")
        ),
        ("<thinking>", ThinkingStyle("<thinking>", "</thinking>")),
    ]

    /// Every way of writing calls and every way of thinking, once at least.
    public static let all: [ChannelFormat] = {
        let dropped = answerMarks.flatMap(\.marks)
        return whole.map(\.format)
            + thinkingStyles.map { ChannelFormat(thinking: $0.style, dropped: dropped) }
            + callStyles.map { ChannelFormat(thinking: thinkingStyles.first?.style, calls: $0.style, dropped: dropped) }
    }()

    /// Marks around the answer itself, and what in a template says that a model writes them.
    static let answerMarks: [(evidence: String, marks: [String])] = [
        ("<|START_THINKING|>", ["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"]),
        ("[BEGIN FINAL RESPONSE]", ["[END FINAL RESPONSE]"]), ("<response></response>", ["<response>", "</response>"]),
    ]

    static let callStyles: [(name: String, style: CallStyle)] =
        taggedStyles + [
            ("gemma", CallStyle(opens: ["<|tool_call>"], closes: ["<tool_call|>"], grammar: .gemma)),
            (
                "python list",
                CallStyle(
                    opens: ["<|tool_call_start|>"], closes: ["<|tool_call_end|>"], grammar: .python,
                    evidence: ["<|tool_call_start|>", "<|tool_list_start|>", "List of tools: ["])
            ),
        ] + namedStyles + objectStyles
}

// MARK: Calls in tags

extension ChannelFormat {
    private static func functionTags(_ open: String, _ close: String) -> CallStyle {
        CallStyle(
            opens: [open], closes: [close], callEnd: "</function>",
            grammar: .tagged(
                TagMarks(
                    nameOpen: "<function=", nameCloses: [">"], keyOpen: "<parameter=", keyClose: ">",
                    valueClose: "</parameter>", trimsLines: true)))
    }

    private static func keyTags(
        _ open: String, _ close: String, callEnd: String? = nil, _ suffix: String = "", nameOpen: String = ""
    ) -> CallStyle {
        CallStyle(
            opens: [open], closes: [close], callEnd: callEnd,
            grammar: .tagged(
                TagMarks(
                    nameOpen: nameOpen,
                    nameCloses: ["<tool_sep\(suffix)>", "<arg_key\(suffix)>", "\n", callEnd ?? close],
                    keyOpen: "<arg_key\(suffix)>", keyClose: "</arg_key\(suffix)>", valueOpen: "<arg_value\(suffix)>",
                    valueClose: "</arg_value\(suffix)>")))
    }

    private static func invokeTags(_ calls: String, _ space: String) -> CallStyle {
        CallStyle(
            opens: ["<\(space)\(calls)>"], closes: ["</\(space)\(calls)>"], callEnd: "</\(space)invoke>",
            grammar: .tagged(
                TagMarks(
                    nameOpen: "<\(space)invoke name=\"", nameCloses: ["\""], keyOpen: "<\(space)parameter name=\"",
                    keyClose: "\"", valueOpen: ">", valueClose: "</\(space)parameter>", saysString: "string=\"true\"")),
            inner: ["｜DSML｜"])
    }

    private static let taggedStyles: [(name: String, style: CallStyle)] = [
        ("<function=> tags", functionTags("<tool_call>", "</tool_call>")),
        ("<function=> tags in <seed:tool_call>", functionTags("<seed:tool_call>", "</seed:tool_call>")),
        ("<arg_key> tags", keyTags("<tool_call>", "</tool_call>")),
        (
            "<arg_key:opensource> tags",
            keyTags(
                "<tool_calls:opensource>", "</tool_calls:opensource>", callEnd: "</tool_call:opensource>",
                ":opensource",
                nameOpen: "<tool_call:opensource>")
        ),
        ("<invoke> tags in <｜DSML｜function_calls>", invokeTags("function_calls", "｜DSML｜")),
        ("<invoke> tags in <｜DSML｜tool_calls>", invokeTags("tool_calls", "｜DSML｜")),
        (
            "<invoke> tags in <minimax:tool_call>",
            {
                var style = invokeTags("tool_call", "")
                style.opens = ["<minimax:tool_call>"]
                style.closes = ["</minimax:tool_call>"]
                return style
            }()
        ),
        (
            "tree of tags",
            CallStyle(
                opens: ["]<]minimax[>[<tool_call>"], closes: ["]<]minimax[>[</tool_call>"],
                callEnd: "]<]minimax[>[</invoke>", grammar: .nested("]<]minimax[>["))
        ),
        (
            "<param> tags in <function name=>",
            CallStyle(
                opens: ["<function name=\""], closes: ["</function>"],
                grammar: .tagged(
                    TagMarks(
                        nameCloses: ["\""], keyOpen: "<param name=\"", keyClose: "\"", valueOpen: ">",
                        valueClose: "</param>")))
        ),
    ]
}

// MARK: Calls in JSON

extension ChannelFormat {
    private static func named(
        _ opens: [String], _ closes: [String], _ marks: NameMarks = NameMarks(), inner: [String] = [],
        evidence: [String] = []
    ) -> CallStyle {
        CallStyle(opens: opens, closes: closes, grammar: .named(marks), inner: inner, evidence: evidence)
    }

    private static let deepSeekOpens = ["<｜tool▁calls▁begin｜>"]
    private static let deepSeekCloses = ["<｜tool▁calls▁end｜>"]

    private static let namedStyles: [(name: String, style: CallStyle)] = [
        (
            "DeepSeek V3.1",
            named(
                deepSeekOpens, deepSeekCloses,
                NameMarks(nameOpen: "<｜tool▁call▁begin｜>", nameClose: "<｜tool▁sep｜>"), inner: ["<｜tool▁call▁end｜>"])
        ),
        (
            "DeepSeek R1",
            named(
                deepSeekOpens, deepSeekCloses, NameMarks(nameOpen: "<｜tool▁sep｜>", nameClose: "\n"),
                inner: ["<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"], evidence: ["<｜tool▁calls▁begin｜>"])
        ),
        (
            "Kimi K2",
            named(
                ["<|tool_calls_section_begin|>"], ["<|tool_calls_section_end|>"],
                NameMarks(
                    nameOpen: "<|tool_call_begin|>", nameClose: "<|tool_call_argument_begin|>", isNumbered: true),
                inner: ["<|tool_call_end|>"], evidence: ["<|tool_calls_section_begin|>"])
        ),
        (
            "[TOOL_CALLS]name[ARGS]{}",
            named(
                ["[TOOL_CALLS]"], [], NameMarks(nameClose: "[", idOpen: "[CALL_ID]", idClose: "[ARGS]"),
                inner: ["[ARGS]"])
        ),
        (
            "<function=name>{}",
            named(["<function="], ["</function>"], NameMarks(nameClose: ">"))
        ),
    ]

    private static func objects(_ opens: String..., closes: [String] = [], evidence: [String] = []) -> CallStyle {
        CallStyle(opens: opens, closes: closes, grammar: .object, evidence: evidence)
    }

    private static let objectStyles: [(name: String, style: CallStyle)] = [
        (
            "<|tools_prefix|>[{name: {}}]",
            CallStyle(opens: ["<|tools_prefix|>"], closes: ["<|tools_suffix|>"], grammar: .keyed)
        ),
        ("<tool_calls>JSON", objects("<tool_calls>", closes: ["</tool_calls>"])),
        (
            "<tool_call>JSON",
            CallStyle(
                opens: ["<tool_call>"], closes: ["</tool_call>"], grammar: .object, bare: .ofOfferedTools,
                evidence: ["<tool_call>"])
        ),
        ("<TOOLCALL>JSON", objects("<TOOLCALL>", closes: ["</TOOLCALL>"], evidence: ["<TOOLCALL>"])),
        ("[TOOL_CALLS]JSON", objects("[TOOL_CALLS]", evidence: ["[TOOL_CALLS]"])),
        (
            "<|START_ACTION|>JSON",
            objects("<|START_ACTION|>", closes: ["<|END_ACTION|>"], evidence: ["<|START_ACTION|>"])
        ),
        ("Action: JSON", objects("Action:\n```json", closes: ["```"], evidence: ["Write 'Action:'", "\\'Action:\\'"])),
        ("functools[JSON]", objects("functools", evidence: ["functools["])),
        ("<|function_call|>JSON", objects("<|function_call|>")),
        ("<|tool_call|>JSON", objects("<|tool_call|>", evidence: ["<|tool_call|>"])),
        (
            "bare JSON",
            CallStyle(
                opens: ["<|python_tag|>"], grammar: .object, bare: .always,
                evidence: ["{\"name\": function name, \"parameters\":"])
        ),
    ]
}

// MARK: Formats of several messages

extension ChannelFormat {
    private static let harmony = ChannelFormat(
        calls: CallStyle(opens: [], grammar: .named(NameMarks())),
        headers: HeaderStyle(
            opens: ["<|start|>", "<|channel|>"], end: "<|message|>", promptEnds: ["<|start|>assistant"],
            messageEnds: ["<|end|>", "<|call|>", "<|return|>"],
            words: [
                "assistant", "<|channel|>", "<|constrain|>", "analysis", "commentary", "final", "json", "code",
            ], thinkingWords: ["analysis"], recipient: "to="))

    private static let muse = ChannelFormat(
        calls: invokeTags("function_calls", "atem:"),
        headers: HeaderStyle(
            opens: ["<|start|>"], end: "<|message|>", promptEnds: ["<|start|>assistant"],
            messageEnds: ["<|eom|>", "<|eot|>"], words: ["assistant"], recipient: "to=",
            people: ["self": .thinking, "user": .answer], marksCalls: true))

    private static let functionary = ChannelFormat(
        calls: CallStyle(opens: [], grammar: .named(NameMarks())),
        headers: HeaderStyle(
            opens: [">>>"], end: "\n", promptEnds: [">>>"], recipient: "", people: ["all": .answer]))

    private static let kimiK3 = ChannelFormat(
        thinking: ThinkingStyle("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
        calls: CallStyle(
            opens: ["<|open|>tools<|sep|>"], closes: ["<|close|>tools<|sep|>"], callEnd: "<|close|>call<|sep|>",
            grammar: .tagged(
                TagMarks(
                    nameOpen: "<|open|>call tool=\"", nameCloses: ["\""], keyOpen: "<|open|>argument key=\"",
                    keyClose: "\"", valueOpen: "<|sep|>", valueClose: "<|close|>argument<|sep|>",
                    saysString: "type=\"string\""))),
        dropped: ["<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"])

    private static let solar = ChannelFormat(
        thinking: ThinkingStyle("<|think|>", "<|end|>"),
        calls: CallStyle(
            opens: ["<|tool_calls|>"], closes: ["<|calls|>"],
            grammar: .named(
                NameMarks(
                    nameOpen: "<|tool_call:name|>", nameClose: "<|tool_call:args|>", idOpen: "<|tool_call:begin|>",
                    idClose: "<|tool_call:name|>")), inner: ["<|tool_call:end|>"]),
        dropped: ["<|begin|>assistant", "<|content|>", "<|end|>"])

    private static let gigaChat = ChannelFormat(
        calls: CallStyle(opens: ["function call<|role_sep|>"], grammar: .object), dropped: ["<|message_sep|>"])
}
