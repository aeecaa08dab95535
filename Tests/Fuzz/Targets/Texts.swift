import Engine
import Glibc
import ModelFormat
import Quantization
import Text

extension FuzzTarget {
    /// A text for each kind of tokenizer. Some are repeated up to 64 KB: what is not linear shows as a hang.
    static let text = FuzzTarget("text") {
        [
            "ab ba\n<s>é", "e\u{323}\u{301}", "中文 ab", "   \t\r\n1234 it's", "<|im_start|></s>[SEP]",
            "\u{1100}\u{1161}\u{11a8}",
        ]
        .map { [0] + Array($0.utf8) }
    } run: { bytes in
        guard let first = bytes.first else { return }
        var text = String(decoding: bytes.dropFirst(), as: UTF8.self)
        if first & 31 == 31, !text.isEmpty { text = String(repeating: text, count: max(1, 65536 / text.utf8.count)) }
        for tokenizer in try tokenizers.get() {
            let ids = tokenizer.encode(text, addSpecial: first & 1 == 0, parseSpecial: first & 2 == 0)
            demand(ids.allSatisfy { $0 >= 0 && $0 < tokenizer.vocabularySize }, "a token outside the vocabulary")
            var detokenizer = IncrementalDetokenizer(tokenizer)
            let pieces = ids.map { detokenizer.append($0) }.joined() + detokenizer.finish()
            // The first word's space is not told apart in a stream.
            let whole = tokenizer.decode(ids)
            demand(
                [whole, " " + whole].contains { $0.utf8.elementsEqual(pieces.utf8) },
                "piece by piece it is another text")
        }
    }

    private static let tokenizers = Result<[Tokenizer], any Error> {
        try TinyFiles.containers().compactMap { bytes in
            let path = try Scratch.write("tokenizer.ebb", bytes)
            defer { unlink(path) }
            return try? Tokenizer(try EbbFile(path: path).metadata)
        }
    }

    /// A conversation of a parked model.
    static let parking = FuzzTarget("parking", longest: 8192) {
        guard let model = try decoder.get() else { return [] }
        let sequence = model.makeSequence()
        let input = StepInput(sequence: sequence, tokens: (0..<35).map { Int32($0) }, logits: .none)
        try model.run([input]) { _, _, _ in }
        return [written(sequence)]
    } run: { bytes in
        guard let model = try decoder.get() else { return }
        var rest = bytes[...]
        let sequence = model.makeSequence()
        try sequence.read { piece in
            guard rest.count >= piece.count else { throw FormatError("it is truncated") }
            piece.copyBytes(from: rest.prefix(piece.count))
            rest = rest.dropFirst(piece.count)
        }
        demand(written(sequence).elementsEqual(bytes.prefix(bytes.count - rest.count)), "it is written otherwise")
        try model.run([StepInput(sequence: sequence, tokens: [1], logits: .last)]) { _, _, _ in }
    }

    private static func written(_ sequence: KVSequence) -> [UInt8] {
        var bytes: [UInt8] = []
        sequence.write { bytes.append(contentsOf: $0) }
        return bytes
    }

    nonisolated(unsafe) static let decoder = Result<DecoderModel?, any Error> {
        let source = try Scratch.write("parking.gguf", TinyFiles.decoder("llama", pieces: true))
        let path = "\(Scratch.folder)/parking.ebb"
        try ModelImport(GGUFSource(try GGUFFile(path: source))).write(to: path)
        return try DecoderModel(
            try EbbFile(path: path), pool: try WorkerPool(threads: 1), kernels: try Kernels.fromEnvironment(),
            options: ModelOptions(contextLimit: 64, sequences: 2))
    }

    /// A template, and messages and tools for it.
    static let template = FuzzTarget("template") {
        let messages =
            #"[{"role": "user", "content": "Hi", "n": 1}, {"role": "assistant", "content": null, "l": [1.5, true]}]"#
        return [
            "{% for m in messages %}<s>{{ m.role | upper }}\n{{ m['content'] }}{% endfor %}",
            "{%- set ns = namespace(n=0) -%}{% for x in range(1, 9, 2) %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}",
            "{% if tools is defined and tools | length > 0 %}{{ tools | tojson }}{% elif not add_generation_prompt %}x{% else %}y{% endif %}",
            "{{ 'a-b'.split('-')[-1] ~ 'abc'[::-1] }}{{ (1, 2) }}{{ {'k': [1, none]}.items() }}{{ 7 // 2 * -3 % 4 }}",
            "{% set t %}in{% endset %}{{ t * 3 }}{{ x | default('d') }}{{ raise_exception('no') if false }}",
            "{{ messages[0]['content'].startswith('H') and messages | selectattr('role', 'equalto', 'user') | list }}",
            "{% for i in range(9) %}{% if loop.last %}{% break %}{% endif %}{{ loop.index0 }}{% endfor %}{{ 'a' in 'cat' }}",
            "{% macro f(a, b=2) %}{{ a }}{{ caller(b) }}{{ varargs }}{% endmacro %}{% call(x) f(1) %}{{ x }}{% endcall %}",
            "{% filter upper %}{% with a = (1, 2) %}{{ a[::-1] }}{% endwith %}{% endfilter %}{{ 1 < 2 <= 3 }}{{ 2 ** 3 }}",
            "{{ '%5.2f|%-3s' % (1.5, 'a') }}{{ '{:>4}{x[0]!r}'.format(1, x=[2]) }}{{ {'b': 1} | dictsort | tojson(indent=2) }}",
            "{{ [3, 1] | sort | map('string') | join }}{{ [{'a': 1}] | groupby('a') }}{{ '{\"a\": 1}' | from_json }}",
            "{# note #}{% raw %}{{ x }}{% endraw %}{{ strftime_now('%Y') | length }}{{ 'x' | trim | replace('x', 'yy') }}",
        ].map { joined($0, messages, #"[{"type": "function"}]"#) }
    } run: { bytes in
        let texts = parts(bytes)
        let template = try ChatTemplate(texts[0], bosText: "<s>", eosText: "</s>")
        func list(_ index: Int) -> [JSONValue] {
            guard index < texts.count, case .array(let list)? = try? JSONValue(parsing: texts[index]) else { return [] }
            return list
        }
        _ = try template.render(messages: list(1), tools: list(2), addGenerationPrompt: true)
    }

    /// A JSON text.
    static let json = FuzzTarget("json") {
        [
            #"{"a": [1, -2.5e3, true, false, null], "b": {"c": "\u00e9\ud83d\ude00\n"}}"#, "[]", "\"\\u0041\"", "-0.0",
            "[[[[[[{}]]]]]]",
        ].map { Array($0.utf8) }
    } run: { bytes in
        let value = try JSONValue(parsing: String(decoding: bytes, as: UTF8.self))
        demand(value == value, "a value differs from itself")
        _ = value["a"]?.string
    }

    /// An answer in pieces, for one of the formats of channels; which pieces are control tokens.
    static let channels = FuzzTarget("channels") {
        let answers = [
            "<think>\nT</think>A", "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"\"}}\n</tool_call>",
            "<tool_call><function=f><parameter=x>\n1\n</parameter></function></tool_call>",
            "[f(a='x', b=[1, {'k': None}])]", "call:f{a:<|\"|>x<|\"|>,b:[1]}", "{\"name\": \"f\", \"parameters\": {}}",
            "<|channel|>analysis<|message|>T<|end|><|start|>assistant to=functions.f<|message|>{}<|call|>",
            ">>>f\n{\"a\": 1}>>>all\nA",
        ]
        return ChannelFormat.all.indices.map { [UInt8($0), 0] + joined("A", answers[$0 % answers.count], "B") }
    } run: { bytes in
        guard bytes.count > 2 else { return }
        let format = ChannelFormat.all[Int(bytes[0]) % ChannelFormat.all.count]
        let texts = parts(Array(bytes.dropFirst(2)))
        let prompt = MarkedText(trusting: bytes[1] & 1 == 0 ? "" : "<think>")
        func read(_ texts: [String], controls: UInt8) -> [ChannelPiece] {
            var reader = ChannelReader(format, prompt: prompt, offersTools: true)
            let pieces = texts.enumerated().flatMap { index, text in
                reader.append(text, isPrinted: controls >> UInt8(index % 7) & 1 == 0)
            }
            return pieces + reader.finish()
        }
        func text(_ pieces: [ChannelPiece], _ channel: AnswerChannel) -> String {
            pieces.filter { $0.channel == channel }.map(\.text).joined()
        }
        _ = read(texts, controls: bytes[1] >> 1)
        let (pieces, whole) = (read(texts, controls: 0), read([texts.joined()], controls: 0))
        for channel in [AnswerChannel.answer, .thinking, .toolCall] {
            demand(text(pieces, channel).utf8.elementsEqual(text(whole, channel).utf8), "in pieces it reads otherwise")
        }
        demand(pieces.compactMap(\.call) == whole.compactMap(\.call), "in pieces it has other calls")
        for call in pieces.compactMap(\.call) {
            demand((try? JSONValue(parsing: call.arguments)) != nil, "the arguments of a call are no JSON")
        }
    }
}
