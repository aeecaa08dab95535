import NIOCore
import SwiftProtobuf

/// What is wrong with the bytes of a connection. The connection cannot go on after it.
public enum FrameError: Error, CustomStringConvertible, Sendable, Equatable {
    case tooLarge(Int)
    case malformed
    case incomplete

    public var description: String {
        switch self {
        case .tooLarge(let bytes): "a frame of \(bytes) bytes; at most \(EbbProtocol.maxFrameBytes) are possible"
        case .malformed: "a frame is not an Envelope"
        case .incomplete: "the connection ended in the middle of a frame"
        }
    }
}

/// Frames: 4 bytes, big-endian, the payload's length; then the payload, one `Envelope`.
public struct FrameDecoder: NIOSingleStepByteToMessageDecoder {
    public typealias InboundOut = EbbEnvelope

    public init() {}

    /// - Throws: ``FrameError``. A length is judged before its payload is awaited.
    public mutating func decode(buffer: inout ByteBuffer) throws -> EbbEnvelope? {
        guard let length = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self) else { return nil }
        guard length <= EbbProtocol.maxFrameBytes else { throw FrameError.tooLarge(Int(length)) }
        guard buffer.readableBytes >= 4 + Int(length) else { return nil }
        buffer.moveReaderIndex(forwardBy: 4)
        let payload = buffer.readBytes(length: Int(length)) ?? []
        do {
            return try EbbEnvelope(serializedBytes: payload)
        } catch {
            throw FrameError.malformed
        }
    }

    public mutating func decodeLast(buffer: inout ByteBuffer, seenEOF: Bool) throws -> EbbEnvelope? {
        let envelope = try decode(buffer: &buffer)
        if envelope == nil, buffer.readableBytes > 0 { throw FrameError.incomplete }
        return envelope
    }
}

public struct FrameEncoder: MessageToByteEncoder {
    public typealias OutboundIn = EbbEnvelope

    public init() {}

    public func encode(data: EbbEnvelope, out: inout ByteBuffer) throws {
        let payload: [UInt8] = try data.serializedBytes()
        guard payload.count <= EbbProtocol.maxFrameBytes else { throw FrameError.tooLarge(payload.count) }
        out.reserveCapacity(minimumWritableBytes: 4 + payload.count)
        out.writeInteger(UInt32(payload.count))
        out.writeBytes(payload)
    }

    /// One envelope as its frame.
    /// - Throws: ``FrameError`` where it is longer than a frame may be.
    public static func frame(_ envelope: EbbEnvelope) throws -> ByteBuffer {
        var out = ByteBuffer()
        try FrameEncoder().encode(data: envelope, out: &out)
        return out
    }
}
