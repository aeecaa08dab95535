import Dispatch
import EbbProtocol
import NIOCore
import SwiftProtobuf
import Synchronization

/// Turns one connection's frames into envelopes and back. Small ones at once; large ones, which take milliseconds, on a
/// thread of their own, one at a time, so that neither the event loop nor the tasks of other connections wait for them.
struct FrameCoder: Sendable {
    /// The large frames of all connections: users take turns, and their connections.
    final class Queue: Sendable {
        private let thread = DispatchQueue(label: "ebb.frames", qos: .userInitiated)
        private let jobs = Mutex(JobQueue<@Sendable () -> Void>())

        fileprivate func add(_ origin: RequestOrigin, cost: Int, _ job: @escaping @Sendable () -> Void) {
            jobs.withLock { _ = $0.add(job, origin, cost: cost) }
            // As often as there are jobs: which one it is is decided when it begins.
            thread.async { self.jobs.withLock { $0.next() }?() }
        }
    }

    private let queue: Queue
    private let origin: RequestOrigin

    init(_ queue: Queue, _ origin: RequestOrigin) { (self.queue, self.origin) = (queue, origin) }

    /// Some tenths of a millisecond.
    private static let smallBytes = 32 << 10

    /// - Throws: ``FrameError``.
    func decode(_ payload: ByteBuffer) async throws -> EbbEnvelope {
        guard payload.readableBytes > Self.smallBytes else { return try Self.decodeNow(payload) }
        return try await apart(payload.readableBytes) { try Self.decodeNow(payload) }
    }

    private static func decodeNow(_ payload: ByteBuffer) throws -> EbbEnvelope {
        do {
            // Fields that nobody knows would be kept as long as the request.
            var options = BinaryDecodingOptions()
            options.discardUnknownFields = true
            return try EbbEnvelope(serializedBytes: [UInt8](payload.readableBytesView), options: options)
        } catch {
            throw FrameError.malformed
        }
    }

    /// - Throws: ``ServiceError`` where it is too long for a frame.
    func encode(_ envelope: EbbEnvelope) async throws -> ByteBuffer {
        do {
            let bytes = Self.bytes(of: envelope.body)
            guard bytes > Self.smallBytes else { return try FrameEncoder.frame(envelope) }
            return try await apart(bytes) { try FrameEncoder.frame(envelope) }
        } catch FrameError.tooLarge(let bytes) {
            throw ServiceError(
                .frameTooLarge,
                "the answer has \(bytes) bytes, a frame holds \(EbbProtocol.maxFrameBytes): ask for less at once (a shorter text, "
                    + "fewer texts)")
        }
    }

    /// About as many as it will have, of those that can have many.
    private static func bytes(of body: EbbEnvelope.OneOf_Body?) -> Int {
        switch body {
        case .pong(let pong)?: pong.payload.count
        case .tokens(let tokens)?: tokens.ids.count * 4
        case .text(let text)?: text.text.utf8.count
        case .embeddings(let found)?: found.vectors.reduce(0) { $0 + $1.values.count * 4 }
        case .reranked(let found)?: found.scores.count * 4
        case .rendered(let rendered)?: rendered.text.utf8.count + rendered.ids.count * 4
        case .models(let models)?: models.models.count * 256
        default: 0
        }
    }

    private func apart<T: Sendable>(_ cost: Int, _ work: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            queue.add(origin, cost: cost) { continuation.resume(with: Result { try work() }) }
        }
    }
}
