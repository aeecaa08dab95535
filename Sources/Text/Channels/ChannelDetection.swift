import OrderedCollections

/// Finds a template's format by what it makes of a conversation with known thinking and known calls: the format that reads
/// these back is the one. Templates that write neither (they drop thinking, or know no calls) are searched for marks.
struct ChannelProbe {
    static let thinking = "probe of thought"
    static let answer = "probe of answer"
    static let name = "probe_tool"
    static let arguments = #"{"probe_key": "probe of value"}"#

    /// An assistant's turn, and the prompt before it.
    struct Turn {
        let prompt: MarkedText
        let text: String
    }

    private let template: ChatTemplate
    private let tools: [JSONValue]
    private let openWithTools: String?

    /// The template writes which tools there are.
    var showsTools: Bool { openWithTools?.contains(Self.name) ?? false }

    init(_ template: ChatTemplate) {
        self.template = template
        let function: JSONValue = .object([
            "name": .string(Self.name), "description": .string("d"),
            "parameters": .object([
                "type": .string("object"),
                "properties": .object([
                    "probe_key": .object(["type": .string("string"), "description": .string("d")])
                ]), "required": .array([.string("probe_key")]),
            ]),
        ])
        tools = [.object(["type": .string("function"), "function": function])]
        openWithTools = Self.rendered(template, nil, tools)
    }

    private static func assistant(content: String, isThinking: Bool, argumentsAreText: Bool) -> JSONValue {
        var more: OrderedDictionary<String, JSONValue> = [:]
        if isThinking {
            for key in ["reasoning_content", "thinking", "reasoning"] { more[key] = .string(thinking) }
        }
        let object: JSONValue = .object(["probe_key": .string("probe of value")])
        let function: JSONValue = .object([
            "name": .string(name), "arguments": argumentsAreText ? .string(arguments) : object,
        ])
        more["tool_calls"] = .array([
            .object(["id": .string("probe0000"), "type": .string("function"), "function": function])
        ])
        return ChatTemplate.message(role: "assistant", content: content, more: more)
    }

    private static func rendered(_ template: ChatTemplate, _ turn: JSONValue?, _ tools: [JSONValue]) -> String? {
        let messages = [ChatTemplate.message(role: "user", content: "q")] + (turn.map { [$0] } ?? [])
        return template.probed(
            messages: messages, tools: tools, variables: ["enable_thinking": .bool(true), "thinking": .bool(true)],
            addGenerationPrompt: turn == nil)
    }

    /// What the template makes of turns, in at most six renderings with those of prompts: with thinking and a call, and with
    /// an answer and a call, since some templates refuse all at once and others drop parts.
    func turns() -> [Turn] {
        guard let open = openWithTools ?? Self.rendered(template, nil, []) else { return [] }
        var turns: [Turn] = []
        for (content, isThinking) in [("", true), (Self.answer, false)] {
            for asText in [false, true] {
                let said = Self.assistant(content: content, isThinking: isThinking, argumentsAreText: asText)
                let offered = openWithTools == nil ? [] : tools
                guard let text = Self.rendered(template, said, offered) else { continue }
                let turn = Self.cut(text, open)
                // A turn of a few words is short. What is not is not read by all formats.
                if turn.text.utf8.count <= Self.longestTurn { turns.append(turn) }
                break
            }
        }
        return turns
    }

    /// What a turn adds to the prompt. A mark that both begin is not cut in two.
    static func cut(_ text: String, _ open: String) -> Turn {
        let (whole, begun) = (Array(text.utf8), Array(open.utf8))
        var common = zip(whole, begun).prefix { $0 == $1 }.count
        if common < begun.count {
            let mark = whole[..<common].suffix(longestMark).lastIndex { "<[>]".utf8.contains($0) }
            if let mark, "<[".utf8.contains(whole[mark]) { common = mark }
        }
        while common > 0, common < whole.count, whole[common] & 0xc0 == 0x80 { common -= 1 }
        let prompt = String(decoding: whole[..<common], as: UTF8.self)
        return Turn(prompt: MarkedText(trusting: prompt), text: String(decoding: whole[common...], as: UTF8.self))
    }

    private static let longestMark = 40
    private static let longestTurn = 1 << 14
}

extension ChannelFormat {
    /// How a model marks thinking and tool calls: nil where its template marks neither.
    /// - Parameter tokenizer: where a template has tools but leaves their marks to the model, its vocabulary has them.
    public static func find(_ template: ChatTemplate, _ tokenizer: Tokenizer) -> ChannelFormat? {
        found(template) { tokenizer.encode($0, addSpecial: false, parseSpecial: true).count == 1 }?.format
    }

    /// The same with the names of the ways.
    /// - Parameter isToken: whether a text is one token.
    static func found(
        _ template: ChatTemplate, isToken: (String) -> Bool = { _ in false }
    ) -> (format: ChannelFormat, thinking: String?, calls: String?)? {
        let probe = ChannelProbe(template)
        let turns = probe.turns()
        for (name, format) in whole where turns.contains(where: format.readsCall) {
            return (format, format.hasThinking ? name : nil, name)
        }
        let thinking =
            thinkingStyles.first { style in
                turns.contains(where: ChannelFormat(thinking: style.style).readsThinking)
            } ?? thinkingStyles.first { style in style.style.closes.contains(where: template.mentions) }
        let calls =
            callStyles.first { style in turns.contains(where: ChannelFormat(calls: style.style).readsCall) }
            ?? callStyles.first { style in style.style.evidence.contains(where: template.mentions) }
            ?? (probe.showsTools ? callStyles.first { style in style.style.opens.contains(where: isToken) } : nil)
        guard thinking != nil || calls != nil else { return nil }
        let dropped = answerMarks.filter { template.mentions($0.evidence) }.flatMap(\.marks)
        return (
            ChannelFormat(thinking: thinking?.style, calls: calls?.style, dropped: dropped), thinking?.name, calls?.name
        )
    }

    private var hasThinking: Bool {
        thinking != nil || headers.map { !$0.thinkingWords.isEmpty || $0.people.values.contains(.thinking) } ?? false
    }

    private func pieces(_ turn: ChannelProbe.Turn) -> [ChannelPiece] {
        var reader = ChannelReader(self, prompt: turn.prompt, offersTools: true)
        return reader.append(turn.text, isPrinted: true) + reader.finish()
    }

    private func readsCall(_ turn: ChannelProbe.Turn) -> Bool {
        pieces(turn).contains { piece in
            guard let call = piece.call, call.name == ChannelProbe.name else { return false }
            return (try? JSONValue(parsing: call.arguments))?["probe_key"] == .string("probe of value")
        }
    }

    private func readsThinking(_ turn: ChannelProbe.Turn) -> Bool {
        pieces(turn).lazy.filter { $0.channel == .thinking }.map(\.text).joined() == ChannelProbe.thinking
    }
}
