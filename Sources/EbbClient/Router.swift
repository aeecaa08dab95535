import EbbProtocol
import NIOCore
import Synchronization

/// Hands each answer to the call that waits for it, and stops reading from the socket while too much waits to be read.
final class Router: ChannelDuplexHandler, Sendable {
    typealias InboundIn = EbbEnvelope
    typealias OutboundIn = ByteBuffer

    private struct State {
        var next: UInt64 = 1
        var waiting: [UInt64: AnswerInbox] = [:]
        var closed: ClientError?
        var bytes = 0
        /// A read that waits until there is room.
        var heldRead: (any Channel)?
    }

    private let state = Mutex(State())

    /// Bytes of answers that may wait for their readers.
    private static let mostBytes = 8 << 20

    /// A new request's id and where its answers arrive, until ``end(_:)``.
    func begin() throws -> (UInt64, AnswerInbox) {
        let inbox = AnswerInbox { [weak self] bytes in self?.count(bytes) }
        return try state.withLock { state in
            if let closed = state.closed { throw closed }
            let id = state.next
            state.next += 1
            state.waiting[id] = inbox
            return (id, inbox)
        }
    }

    /// Forgets a request; true if it was under way.
    @discardableResult
    func end(_ id: UInt64) -> Bool { state.withLock { $0.waiting.removeValue(forKey: id) != nil } }

    /// Why the connection is closed, if it is.
    var closed: ClientError? { state.withLock { $0.closed } }

    func close(_ error: ClientError) {
        let (waiting, reason) = state.withLock { state in
            let reason = state.closed ?? error
            (state.closed, state.heldRead) = (reason, nil)
            defer { state.waiting = [:] }
            return (state.waiting, reason)
        }
        for inbox in waiting.values { inbox.finish(throwing: reason) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        guard let body = envelope.body else { return }
        if envelope.id == 0, case .failure(let failure) = body { return close(ClientError(failure)) }
        let inbox = state.withLock { state in
            body.isLastAnswer ? state.waiting.removeValue(forKey: envelope.id) : state.waiting[envelope.id]
        }
        inbox?.put(body)
    }

    func read(context: ChannelHandlerContext) {
        let channel = context.channel
        let reads = state.withLock { state in
            if state.bytes > Self.mostBytes { state.heldRead = channel }
            return state.bytes <= Self.mostBytes
        }
        if reads { context.read() }
    }

    private func count(_ bytes: Int) {
        let channel = state.withLock { state in
            state.bytes += bytes
            guard state.bytes <= Self.mostBytes else { return nil as (any Channel)? }
            defer { state.heldRead = nil }
            return state.heldRead
        }
        channel?.read()
    }

    func channelInactive(context: ChannelHandlerContext) {
        close(ClientError(.unreachable, "ebbd closed the connection", retryAfter: .seconds(1)))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if error is IOError {
            close(ClientError(.unreachable, "ebbd closed the connection (\(error))", retryAfter: .seconds(1)))
        } else {
            close(ClientError(.protocolViolation, "the connection to ebbd failed: \(error)"))
        }
        context.close(promise: nil)
    }
}
