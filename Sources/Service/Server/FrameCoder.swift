import Dispatch
import EbbProtocol
import NIOCore

/// Turns frames into envelopes and back. Small ones at once; large ones, which take milliseconds, on a thread of their
/// own, one at a time, so that neither the event loop nor the tasks of other connections wait for them.
enum FrameCoder {
    private static let queue = DispatchQueue(label: "ebb.frames", qos: .userInitiated)
    /// Some tenths of a millisecond.
    private static let smallBytes = 32 << 10

    /// - Throws: ``FrameError``.
    static func decode(_ payload: ByteBuffer) async throws -> EbbEnvelope {
        guard payload.readableBytes > smallBytes else { return try decodeNow(payload) }
        return try await apart { try decodeNow(payload) }
    }

    private static func decodeNow(_ payload: ByteBuffer) throws -> EbbEnvelope {
        do {
            return try EbbEnvelope(serializedBytes: [UInt8](payload.readableBytesView))
        } catch {
            throw FrameError.malformed
        }
    }

    /// - Throws: ``ServiceError`` where it is too long for a frame.
    static func encode(_ envelope: EbbEnvelope) async throws -> ByteBuffer {
        do {
            guard isLarge(envelope.body) else { return try FrameEncoder.frame(envelope) }
            return try await apart { try FrameEncoder.frame(envelope) }
        } catch FrameError.tooLarge(let bytes) {
            throw ServiceError(
                .frameTooLarge,
                "the answer has \(bytes) bytes, a frame holds \(EbbProtocol.maxFrameBytes): ask for less at once (a shorter text, "
                    + "fewer texts)")
        }
    }

    private static func isLarge(_ body: EbbEnvelope.OneOf_Body?) -> Bool {
        switch body {
        case .pong(let pong)?: pong.payload.count > smallBytes
        case .tokens(let tokens)?: tokens.ids.count > smallBytes / 4
        case .text(let text)?: text.text.utf8.count > smallBytes
        case .embeddings, .models: true
        default: false
        }
    }

    private static func apart<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result { try work() }) }
        }
    }
}
