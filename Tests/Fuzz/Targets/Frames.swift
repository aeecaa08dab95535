import EbbProtocol
import NIOCore

extension FuzzTarget {
    /// Bytes of a connection, in two pieces.
    static let frames = FuzzTarget("frames") {
        try seedEnvelopes().map { envelope in
            var out = ByteBuffer()
            try FrameEncoder().encode(data: envelope, out: &out)
            return Array(out.readableBytesView)
        }
    } run: { bytes in
        var decoder = FrameDecoder()
        var buffer = ByteBuffer(bytes: bytes.prefix(bytes.count / 2))
        while let envelope = try decoder.decode(buffer: &buffer) { try checkRoundTrip(envelope) }
        buffer.writeBytes(bytes.dropFirst(bytes.count / 2))
        while let envelope = try decoder.decode(buffer: &buffer) { try checkRoundTrip(envelope) }
        _ = try decoder.decodeLast(buffer: &buffer, seenEOF: true)
    }

    /// The payload of a frame.
    static let envelopes = FuzzTarget("envelopes") {
        try seedEnvelopes().map { try $0.serializedBytes() }
    } run: { bytes in
        try checkRoundTrip(try EbbEnvelope(serializedBytes: bytes))
    }

    /// What was read is written, and read again, as the same.
    private static func checkRoundTrip(_ envelope: EbbEnvelope) throws {
        let bytes: [UInt8] = try envelope.serializedBytes()
        let again: [UInt8] = try EbbEnvelope(serializedBytes: bytes).serializedBytes()
        demand(bytes == again, "an envelope changes when it is passed on")
    }

    private static func seedEnvelopes() -> [EbbEnvelope] {
        var hello = EbbHello()
        (hello.versionMin, hello.versionMax, hello.client) = (1, 1, "fuzz/1")
        var prompt = EbbGenerate()
        (prompt.model, prompt.prompt, prompt.maxTokens, prompt.stop) = ("m", "Once upon", 8, ["\n", "</s>"])
        (prompt.sampling.temperature, prompt.sampling.topK, prompt.sampling.seed) = (0.5, 40, 7)
        var chat = EbbGenerate()
        var message = EbbMessage()
        (message.role, message.content, message.moreJson) = ("user", "Hi", #"{"name": "x"}"#)
        chat.model = "m"
        chat.chat.messages = [message, message]
        chat.chat.toolsJson = #"[{"type": "function"}]"#
        var embed = EbbEmbed()
        (embed.model, embed.texts, embed.dimensions, embed.prompt) = ("e", ["a", "b c"], 8, "query")
        var rerank = EbbRerank()
        (rerank.model, rerank.query, rerank.documents) = ("r", "q", ["a", "b c"])
        var tokenize = EbbTokenize()
        (tokenize.model, tokenize.text, tokenize.parseSpecial) = ("m", "<s>text", true)
        var detokenize = EbbDetokenize()
        (detokenize.model, detokenize.ids) = ("m", [0, 1, -1, .max])
        var mode = EbbSetMode()
        (mode.model, mode.mode) = ("m", .dequantized)
        var preference = EbbSetPreference()
        (preference.model, preference.preference, preference.priority) = ("m", .speed, -3)
        var ping = EbbPing()
        ping.payload = .init([1, 2, 3])
        return [
            .init(id: 1, .hello(hello)), .init(id: 2, .generate(prompt)), .init(id: 3, .generate(chat)),
            .init(id: 4, .embed(embed)), .init(id: 5, .tokenize(tokenize)), .init(id: 6, .detokenize(detokenize)),
            .init(id: 7, .setMode(mode)), .init(id: 8, .setPreference(preference)), .init(id: 9, .ping(ping)),
            .init(id: 10, .rerank(rerank)),
            .init(id: .max, .failure(EbbFailure(.overloaded, "later", retryAfterMilliseconds: 5))),
        ]
    }
}
