import EbbProtocol
import Testing

@Suite("What an envelope's bytes say before they are decoded")
struct EnvelopeOutlineTests {
    private func outline(_ envelope: EbbEnvelope) throws -> EnvelopeOutline {
        let bytes: [UInt8] = try envelope.serializedBytes()
        return try bytes.withUnsafeBytes { try EnvelopeOutline($0) }
    }

    @Test("A conversation's messages are counted, and the id is found")
    func messages() throws {
        var generate = EbbGenerate()
        generate.model = "m"
        var chat = EbbChat()
        chat.messages = [EbbMessage](repeating: EbbMessage(), count: 300)
        generate.chat = chat
        let outline = try outline(EbbEnvelope(id: 70_000, .generate(generate)))
        #expect(outline.id == 70_000 && outline.messages == 300 && !outline.hasAnswer && !outline.isHello)
    }

    @Test("Messages to be rendered are counted like those to be answered")
    func renderedMessages() throws {
        var render = EbbRender()
        render.chat.messages = [EbbMessage](repeating: EbbMessage(), count: 300)
        #expect(try outline(EbbEnvelope(id: 1, .render(render))).messages == 300)
    }

    @Test("Documents to rank are counted like texts to embed")
    func documents() throws {
        var rerank = EbbRerank()
        (rerank.query, rerank.documents) = ("q", [String](repeating: "d", count: 300))
        #expect(try outline(EbbEnvelope(id: 1, .rerank(rerank))).texts == 300)
        #expect(try outline(EbbEnvelope(id: 1, .reranked(EbbReranked()))).hasAnswer)
    }

    @Test("A frame that says its request twice, or a request its conversation, is known by it")
    func repeated() throws {
        func bytes(_ envelope: EbbEnvelope) throws -> [UInt8] { try envelope.serializedBytes() }
        let twice = try bytes(EbbEnvelope(id: 1, .ping(EbbPing()))) + bytes(EbbEnvelope(id: 1, .render(EbbRender())))
        #expect(try twice.withUnsafeBytes { try EnvelopeOutline($0) }.repeats)
        var render = EbbRender()
        render.chat.messages = [EbbMessage()]
        let once = try bytes(EbbEnvelope(id: 1, .render(render)))
        #expect(try once.withUnsafeBytes { try EnvelopeOutline($0) }.repeats == false)
        // id 1; a request of some length: its conversation, and that again.
        for (request, chat) in [(UInt8(0x2a), UInt8(0x1a)), (0x8a, 0x12)] {
            let tag: [UInt8] = request == 0x2a ? [request] : [request, 0x01]
            let frame: [UInt8] = [0x08, 0x01] + tag + [0x08, chat, 0x02, 0x0a, 0x00, chat, 0x02, 0x0a, 0x00]
            #expect(try frame.withUnsafeBytes { try EnvelopeOutline($0) }.repeats)
        }
    }

    @Test("Requests and answers are told apart, and a greeting is known")
    func kinds() throws {
        #expect(try outline(EbbEnvelope(id: 1, .hello(EbbHello()))).isHello)
        #expect(try outline(EbbEnvelope(id: 1, .status(EbbStatus()))).hasAnswer)
        #expect(try outline(EbbEnvelope(id: 1, .rendered(EbbRendered()))).hasAnswer)
        #expect(try outline(EbbEnvelope(id: 1, .getStatus(EbbGetStatus()))).hasAnswer == false)
        let empty = EbbEnvelope.with { $0.id = 4 }
        #expect(try outline(empty).body == nil)
    }

    @Test("Bytes cut short, or that are no protobuf, are malformed and never trap")
    func malformed() throws {
        let bytes: [UInt8] = try EbbEnvelope(id: 9, .generate(.with { $0.chat.messages = [EbbMessage()] }))
            .serializedBytes()
        for count in 1..<bytes.count where count != 2 {
            #expect(throws: FrameError.malformed) {
                try bytes.prefix(count).withUnsafeBytes { try EnvelopeOutline($0) }
            }
        }
        var random = SystemRandomNumberGenerator()
        for _ in 0..<5000 {
            let noise = (0..<Int.random(in: 0...40)).map { _ in UInt8.random(in: .min ... .max, using: &random) }
            _ = try? noise.withUnsafeBytes { try EnvelopeOutline($0) }
        }
    }
}
