import EbbProtocol
import NIOCore
import Synchronization

/// Hands each answer to the call that waits for it.
final class Router: ChannelInboundHandler, Sendable {
    typealias InboundIn = EbbEnvelope
    typealias Stream = AsyncThrowingStream<EbbEnvelope.OneOf_Body, any Error>

    private struct State {
        var next: UInt64 = 1
        var waiting: [UInt64: Stream.Continuation] = [:]
        var closed: ClientError?
    }

    private let state = Mutex(State())

    /// A new request's id and the stream of its answers; the stream stays open until ``end(_:)``.
    func begin() throws -> (UInt64, Stream) {
        let (stream, continuation) = Stream.makeStream()
        return try state.withLock { state in
            if let closed = state.closed { throw closed }
            let id = state.next
            state.next += 1
            state.waiting[id] = continuation
            return (id, stream)
        }
    }

    /// Forgets a request; true if it was under way.
    @discardableResult
    func end(_ id: UInt64) -> Bool { state.withLock { $0.waiting.removeValue(forKey: id) != nil } }

    var isClosed: Bool { state.withLock { $0.closed != nil } }

    func close(_ error: ClientError) {
        let waiting = state.withLock { state in
            if state.closed == nil { state.closed = error }
            defer { state.waiting = [:] }
            return state.waiting
        }
        for continuation in waiting.values { continuation.finish(throwing: error) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        guard let body = envelope.body else { return }
        if envelope.id == 0, case .failure(let failure) = body { return close(ClientError(failure)) }
        state.withLock { $0.waiting[envelope.id] }?.yield(body)
    }

    func channelInactive(context: ChannelHandlerContext) {
        close(ClientError(.unreachable, "ebbd closed the connection", retryAfter: .seconds(1)))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        close(ClientError(.protocolViolation, "the connection to ebbd failed: \(error)"))
        context.close(promise: nil)
    }
}
