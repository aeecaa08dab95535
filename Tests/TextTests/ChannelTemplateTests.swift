import OrderedCollections
import TestKit
import Testing

@testable import Text

@Suite("Channels of the answers that llama.cpp's chat templates write")
struct ChannelTemplateTests {
    private static let thinking = "First I look.\nThen I ask: <b>?"

    private static let calls: [(name: String, arguments: String)] = [
        (
            "get_weather",
            #"{"city": "Zürich \"ZH\" <b>, {1}", "limit": 3, "near": [0.5, {"deep": true}], "exact": false}"#
        ), ("search", #"{"city": "2", "limit": -1}"#),
    ]

    private static func tool(_ name: String) throws -> JSONValue {
        try JSONValue(
            parsing: #"{"type": "function", "function": {"name": "\#(name)", "description": "d", "parameters": "#
                + #"{"type": "object", "properties": {"city": {"type": "string", "description": "e"}}, "required": []}}}"#
        )
    }

    private static func turn(calls count: Int, asText: Bool) throws -> JSONValue {
        var more: OrderedDictionary<String, JSONValue> = [:]
        for key in ["reasoning_content", "thinking", "reasoning"] { more[key] = .string(thinking) }
        let written = try calls.prefix(count).enumerated().map { index, call in
            let arguments = asText ? JSONValue.string(call.arguments) : try JSONValue(parsing: call.arguments)
            return JSONValue.object([
                "id": .string("call0000\(index)"), "type": .string("function"),
                "function": .object(["name": .string(call.name), "arguments": arguments]),
            ])
        }
        more["tool_calls"] = .array(written)
        return ChatTemplate.message(role: "assistant", content: "", more: more)
    }

    /// Without the order of keys.
    private static func sorted(_ value: JSONValue) -> JSONValue {
        switch value {
        case .object(let members):
            let pairs = members.map { ($0.key, sorted($0.value)) }.sorted { $0.0 < $1.0 }
            return .object(OrderedDictionary(uniqueKeysWithValues: pairs))
        case .array(let items): return .array(items.map(sorted))
        default: return value
        }
    }

    struct Reading: Equatable {
        var thinking: String?
        var calls: String?
        /// Thinking came back.
        var thinks = false
        /// How many calls came back.
        var count = 0

        var readBack: String {
            let parts = (thinks ? ["thinking"] : []) + (count == 2 ? ["two calls"] : count == 1 ? ["one call"] : [])
            return parts.isEmpty ? "–" : parts.joined(separator: ", ")
        }
    }

    private static func reading(_ source: String) throws -> Reading {
        let template = try ChatTemplate(source, bosText: "<bos>", eosText: "<eos>")
        guard let found = ChannelFormat.found(template) else { return Reading() }
        var reading = Reading(thinking: found.thinking, calls: found.calls)
        let tools = try calls.map { try tool($0.name) }
        func rendered(_ messages: [JSONValue], _ prompt: Bool) -> String? {
            try? template.render(
                messages: [ChatTemplate.message(role: "user", content: "q")] + messages, tools: tools,
                variables: [
                    "enable_thinking": .bool(true), "thinking": .bool(true), "functions": .string("f"),
                    "datetime": .string("noon"),
                ], addGenerationPrompt: prompt, timeLimit: .seconds(60))
        }
        for count in [2, 1] {
            for asText in [false, true] {
                guard let open = rendered([], true),
                    let whole = rendered([try turn(calls: count, asText: asText)], false)
                else { continue }
                let cut = ChannelProbe.cut(whole, open)
                var reader = ChannelReader(found.format, prompt: cut.prompt, tools: tools)
                let pieces = reader.append(cut.text, isPrinted: true) + reader.finish()
                let thought = pieces.filter { $0.channel == .thinking }.map(\.text).joined()
                reading.thinks = thought == thinking
                let got = pieces.compactMap(\.call)
                for (call, expected) in zip(got, calls) {
                    let value = try JSONValue(parsing: call.arguments)
                    let wanted = try JSONValue(parsing: expected.arguments)
                    if call.name == expected.name, sorted(value) == sorted(wanted) { reading.count += 1 }
                }
                if got.count > count { reading.count = -1 }
                return reading
            }
        }
        return reading
    }

    /// Template, how it marks thinking, how it writes calls, what of a turn with thinking and two calls is read back, why
    /// not all of it.
    private static let table = """
        Apertus-8B-Instruct | <|inner_prefix|> | <|tools_prefix|>[{name: {}}] | two calls | thinking comes from content in blocks
        Apriel-1.6-15b-Thinker-fixed | [BEGIN FINAL RESPONSE] | <tool_calls>JSON | two calls | past thinking lacks the words that open it
        Bielik-11B-v3.0-Instruct | <think> | <tool_call>JSON | thinking, two calls
        ByteDance-Seed-OSS | <seed:think> | <function=> tags in <seed:tool_call> | thinking, two calls
        Cohere2MoE | <|START_THINKING|> | <|START_ACTION|>JSON | thinking, two calls
        CohereForAI-c4ai-command-r-plus-tool_use | – | Action: JSON | two calls
        CohereForAI-c4ai-command-r7b-12-2024-tool_use | <|START_THINKING|> | <|START_ACTION|>JSON | thinking, two calls
        GLM-4.6 | <think> | <arg_key> tags | thinking, two calls
        GLM-4.7-Flash | <think> | <arg_key> tags | thinking, two calls
        GigaChat3-10B-A1.8B | – | gigachat-3 | one call | writes one call
        GigaChat3.1-10B-A1.8B | – | <|function_call|>JSON | one call | writes one call
        HuggingFaceTB-SmolLM3-3B | <think> | – | – | drops thinking, knows no calls
        Kimi-K2-Instruct | – | Kimi K2 | – | refused: it appends to a list, which the sandbox forbids
        Kimi-K2-Thinking | <think> | Kimi K2 | – | refused: it appends to a list, which the sandbox forbids
        Kimi-K3 | kimi-k3 | kimi-k3 | thinking, two calls
        LFM2-8B-A1B | – | python list | – | drops calls
        LFM2.5-8B-A1B | <think> | python list | thinking, two calls
        LFM2.5-Instruct | <think> | python list | – | drops thinking and calls
        MiMo-VL | – | <tool_call>JSON | two calls
        MiniMax-M1 | – | <tool_calls>JSON | two calls
        MiniMax-M2 | <think> | <invoke> tags in <minimax:tool_call> | thinking, two calls
        MiniMax-M3 | <mm:think> | tree of tags | thinking, two calls
        Mistral-Small-3.2-24B-Instruct-2506 | – | [TOOL_CALLS]name[ARGS]{} | two calls
        NVIDIA-Nemotron-3-Nano-30B-A3B-BF16 | <think> | <function=> tags | thinking, two calls
        NVIDIA-Nemotron-Nano-v2 | <think> | <TOOLCALL>JSON | two calls | drops thinking
        NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use | – | <tool_call>JSON | two calls
        NousResearch-Hermes-3-Llama-3.1-8B-tool_use | – | <tool_call>JSON | two calls
        Qwen-QwQ-32B | <think> | <tool_call>JSON | two calls | drops thinking
        Qwen-Qwen2.5-7B-Instruct | – | <tool_call>JSON | two calls
        Qwen-Qwen3-0.6B | <think> | <tool_call>JSON | thinking, two calls
        Qwen3-Coder | – | <function=> tags | two calls
        Qwen3.5-4B | <think> | <function=> tags | thinking, two calls
        Reka-Edge | <think> | <tool_call>JSON | thinking, two calls
        Spark2.5 | <think> | <arg_key> tags | thinking, two calls
        StepFun3.5-Flash | <think> | <function=> tags | thinking, two calls
        deepseek-ai-DeepSeek-R1-Distill-Llama-8B | <think> | DeepSeek R1 | – | drops thinking, drops calls
        deepseek-ai-DeepSeek-R1-Distill-Qwen-32B | <think> | DeepSeek R1 | two calls | drops thinking
        deepseek-ai-DeepSeek-V3.1 | <think> | DeepSeek V3.1 | two calls | drops thinking before calls
        deepseek-ai-DeepSeek-V3.2 | <think> | <invoke> tags in <｜DSML｜function_calls> | thinking, two calls
        deepseek-ai-DeepSeek-V4 | <think> | <invoke> tags in <｜DSML｜tool_calls> | thinking, two calls
        deepseek-ai-DeepSeek-V4-Flash-0731 | <think> | <invoke> tags in <｜DSML｜tool_calls> | thinking, two calls
        fireworks-ai-llama-3-firefunction-v2 | – | functools[JSON] | two calls
        google-gemma-2-2b-it | – | – | –
        google-gemma-4-31B-it | <|channel>thought | gemma | thinking, two calls
        google-gemma-4-31B-it-interleaved | <|channel>thought | gemma | thinking, two calls
        ibm-granite-granite-3.3-2B-Instruct | <think> | <|tool_call|>JSON | – | drops thinking and calls
        ibm-granite-granite-4.0 | – | <tool_call>JSON | two calls
        ibm-granite-granite-4.1 | – | <tool_call>JSON | two calls
        inclusionai-ling-3.0-flash | <think> | <arg_key> tags | thinking, two calls
        llama-cpp-deepseek-r1 | <think> | DeepSeek R1 | – | refuses tools: a generator is no JSON
        llama-cpp-rwkv-world | <think> | – | – | drops thinking, knows no calls
        meetkai-functionary-medium-v3.1 | – | <function=name>{} | two calls
        meetkai-functionary-medium-v3.2 | – | functionary-3.2 | two calls
        meta-llama-Llama-3.1-8B-Instruct | – | bare JSON | one call | refuses parallel calls
        meta-llama-Llama-3.2-3B-Instruct | – | bare JSON | one call | refuses parallel calls
        meta-llama-Llama-3.3-70B-Instruct | – | bare JSON | one call | refuses parallel calls
        microsoft-Phi-3.5-mini-instruct | – | – | –
        mistralai-Ministral-3-14B-Reasoning-2512 | [THINK] | [TOOL_CALLS]name[ARGS]{} | two calls | thinking comes from content in parts
        mistralai-Mistral-Nemo-Instruct-2407 | – | [TOOL_CALLS]JSON | two calls
        moonshotai-Kimi-K2 | – | Kimi K2 | two calls
        muse-glimmer | muse | muse | thinking, two calls
        openai-gpt-oss-120b | harmony | harmony | thinking, one call | writes one call
        openbmb-MiniCPM5-1B | <think> | <param> tags in <function name=> | thinking, two calls
        poolside-Laguna-S-2.1 | <think> | <arg_key> tags | thinking, two calls
        poolside-Laguna-XS-2.1 | <think> | <arg_key> tags | thinking, two calls
        poolside-Laguna-XS.2 | <think> | <arg_key> tags | thinking, two calls
        tencent-Hy3 | <think:opensource> | <arg_key:opensource> tags | thinking, two calls
        unsloth-Apriel-1.5 | [BEGIN FINAL RESPONSE] | <tool_calls>JSON | two calls | thinking comes from a key of its own
        unsloth-mistral-Devstral-Small-2507 | – | [TOOL_CALLS]name[ARGS]{} | two calls
        upstage-Solar-Open-100B | solar | solar | thinking, two calls
        """

    @Test("Channel: what every template writes of thinking and calls is read back")
    func everyTemplate() throws {
        let sources = try FetchedTemplates.sources()
        let rows = Self.table.split(separator: "\n").map { row in
            row.split(separator: " | ", omittingEmptySubsequences: false).map { $0.trimmingSpace() }
        }
        #expect(Set(rows.map(\.[0])) == Set(sources.keys))
        for row in rows {
            let reading = try Self.reading(try #require(sources[row[0]]))
            #expect(
                [reading.thinking ?? "–", reading.calls ?? "–", reading.readBack] == Array(row[1...3]), "\(row[0])")
            // Whatever is not read back has a reason.
            let isWhole = (reading.thinks || reading.thinking == nil) && (reading.count == 2 || reading.calls == nil)
            #expect(isWhole == (row.count < 5), "\(row[0])")
        }
    }

    /// Templates whose prompts end within thinking, where thinking is asked for.
    private static let beginWithin: Set<String> = [
        "Apriel-1.6-15b-Thinker-fixed", "Bielik-11B-v3.0-Instruct", "Cohere2MoE",
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        "deepseek-ai-DeepSeek-V3.1", "deepseek-ai-DeepSeek-V3.2", "deepseek-ai-DeepSeek-V4",
        "deepseek-ai-DeepSeek-V4-Flash-0731", "GLM-4.7-Flash", "inclusionai-ling-3.0-flash", "Kimi-K3",
        "llama-cpp-rwkv-world", "MiniMax-M2", "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "NVIDIA-Nemotron-Nano-v2",
        "openbmb-MiniCPM5-1B", "poolside-Laguna-S-2.1", "poolside-Laguna-XS-2.1", "poolside-Laguna-XS.2",
        "Qwen-QwQ-32B", "Qwen3.5-4B", "Reka-Edge", "Spark2.5", "StepFun3.5-Flash",
    ]

    @Test("Channel: a prompt that its template ends within thinking begins there, whatever a user writes")
    func prompts() throws {
        var found: Set<String> = []
        for (name, source) in try FetchedTemplates.sources() {
            let template = try ChatTemplate(source, bosText: "<bos>", eosText: "<eos>")
            guard let format = ChannelFormat.found(template)?.format else { continue }
            let marks = (format.thinking?.opens ?? []) + (format.headers?.promptEnds ?? [])
            func place(_ content: String, isPrompt: Bool) throws -> ChannelReader.Place? {
                let prompt = try? template.prompt(
                    messages: [ChatTemplate.message(role: "user", content: content)], tools: [try Self.tool("f")],
                    variables: [
                        "enable_thinking": .bool(true), "thinking": .bool(true), "functions": .string("f"),
                        "datetime": .string("noon"),
                    ], addGenerationPrompt: isPrompt, timeLimit: .seconds(60))
                return prompt.map(format.firstPlace)
            }
            let honest = try place("q", isPrompt: true)
            if honest == .thinking { found.insert(name) }
            for mark in marks {
                #expect(try place("q" + mark, isPrompt: true) == honest, "\(name)")
                #expect(try place("q" + mark, isPrompt: false) != .thinking, "\(name)")
            }
        }
        #expect(found == Self.beginWithin)
    }
}
