/// What an envelope's bytes say of it, read without decoding them: an envelope of many empty messages takes forty times
/// its bytes once it is decoded, so this is looked at first.
public struct EnvelopeOutline: Sendable, Equatable {
    /// 0 where there is none.
    public private(set) var id: UInt64 = 0
    /// The field number of its body (ebb.proto).
    public private(set) var body: UInt64?
    /// Whether it says a body, or a body its conversation, more than once: each time all of it would be merged with what came
    /// before, which takes the square of its bytes. No encoder writes that.
    public private(set) var repeats = false
    /// Whether it is a body that only the daemon sends.
    public var hasAnswer: Bool { body.map(Field.answers.contains) ?? false }
    public var isHello: Bool { body == Field.hello && !repeats }
    /// Messages of its conversation.
    public private(set) var messages = 0
    private var hasChat = false
    /// Texts to embed or to rank, texts to stop at, and adapters.
    public private(set) var texts = 0

    /// Field numbers of ebb.proto.
    private enum Field {
        static let id: UInt64 = 1
        static let hello: UInt64 = 2
        static let generate: UInt64 = 5
        static let embed: UInt64 = 13
        static let render: UInt64 = 17
        static let rerank: UInt64 = 18
        static let chatOfRender: UInt64 = 2
        static let textsOfEmbed: UInt64 = 2
        static let textsOfRerank: UInt64 = 3
        static let stopsOfGenerate: UInt64 = 6
        static let adaptersOfGenerate: UInt64 = 12
        static let answers: ClosedRange<UInt64> = 64...77
        static let chatOfGenerate: UInt64 = 3
        static let messagesOfChat: UInt64 = 1
    }

    /// - Parameter bytes: an envelope.
    /// - Throws: ``FrameError/malformed`` where they are no protobuf.
    public init(_ bytes: UnsafeRawBufferPointer) throws {
        var reader = WireReader(bytes)
        while let field = try reader.next() {
            switch field.content {
            case .number(let value) where field.number == Field.id: id = value
            case .bytes(let content) where field.number > Field.id:
                // It is refused: how it goes on takes time to say.
                guard body == nil else {
                    repeats = true
                    return
                }
                body = field.number
                switch field.number {
                case Field.generate:
                    try look(
                        into: content, chat: Field.chatOfGenerate, texts: Field.stopsOfGenerate,
                        Field.adaptersOfGenerate)
                case Field.embed: try look(into: content, texts: Field.textsOfEmbed)
                case Field.rerank: try look(into: content, texts: Field.textsOfRerank)
                case Field.render: try look(into: content, chat: Field.chatOfRender)
                default: break
                }
            default: break
            }
        }
    }

    /// Counts what a request has, by the fields that it has it in. What is refused is not looked at to its end.
    private mutating func look(
        into bytes: UnsafeRawBufferPointer, chat chatField: UInt64? = nil, texts textFields: UInt64...
    ) throws {
        var reader = WireReader(bytes)
        while !repeats, max(texts, messages) <= EbbProtocol.maxMessages, let field = try reader.next() {
            if textFields.contains(field.number) { texts += 1 }
            if field.number == chatField, case .bytes(let chat) = field.content { try look(intoChat: chat) }
        }
    }

    private mutating func look(intoChat bytes: UnsafeRawBufferPointer) throws {
        guard !hasChat else { return repeats = true }
        hasChat = true
        var reader = WireReader(bytes)
        while messages <= EbbProtocol.maxMessages, let member = try reader.next() {
            if member.number == Field.messagesOfChat { messages += 1 }
        }
    }
}

/// Fields of a protobuf message, one after the other.
private struct WireReader {
    enum Content {
        case number(UInt64)
        case bytes(UnsafeRawBufferPointer)
        /// Of a fixed width.
        case other
    }

    private let bytes: UnsafeRawBufferPointer
    private var at = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// nil at the end.
    mutating func next() throws -> (number: UInt64, content: Content)? {
        guard at < bytes.count else { return nil }
        let tag = try varint()
        let content: Content
        switch tag & 7 {
        case 0: content = .number(try varint())
        case 1:
            _ = try take(8)
            content = .other
        case 2: content = .bytes(try take(Int(clamping: try varint())))
        case 5:
            _ = try take(4)
            content = .other
        default: throw FrameError.malformed  // groups, which proto3 has not, and nothing else
        }
        return (tag >> 3, content)
    }

    private mutating func take(_ count: Int) throws -> UnsafeRawBufferPointer {
        guard count <= bytes.count - at else { throw FrameError.malformed }
        defer { at += count }
        return UnsafeRawBufferPointer(rebasing: bytes[at..<at + count])
    }

    private mutating func varint() throws -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard at < bytes.count else { throw FrameError.malformed }
            let byte = bytes[at]
            at += 1
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        throw FrameError.malformed
    }
}
