import EbbProtocol
import Governor
import NIOCore
import Synchronization

/// What comes from a client: the payload of a frame, with the promise of its memory, or one that there is no memory for.
enum InboundFrame: Sendable {
    case payload(ByteBuffer, Ledger.Reservation?)
    case refused(id: UInt64, bytes: Int)
}

/// Cuts a client's bytes into frames. A frame's memory grows with the bytes that have come, not with what its length
/// announces; a large one is promised in the ledger first, and skipped where there is no room for it.
///
/// Belongs to the channel's event loop.
final class FrameReader: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = InboundFrame

    private enum State {
        /// Less than a length.
        case head
        case payload(length: Int, Ledger.Reservation?)
        /// `left` bytes of the frame are still to come; `start` holds its first ones, where its id is.
        case skipping(length: Int, left: Int)
        /// After an error nothing can be trusted.
        case failed
    }

    private var state = State.head
    private var buffer = ByteBuffer()
    /// Frames that have ended in the bytes that are looked at.
    private var frames = 0
    private let ledger: Ledger
    private let uid: UInt32
    private let progress: Progress

    /// Frames below this are not worth a promise.
    static let promisedBytes = 64 << 10
    /// Bytes in which a frame's id is found.
    private static let idBytes = 16

    /// When the frame that has not ended has begun; looked at by whoever watches over the connection.
    final class Progress: Sendable {
        private let begun = Mutex<Double?>(nil)
        private let listener = Mutex<(@Sendable () -> Void)?>(nil)
        /// Monotonic seconds; nil between frames.
        var unfinishedSince: Double? { begun.withLock { $0 } }
        /// Has someone told when a frame has begun and not ended.
        func listen(_ new: @escaping @Sendable () -> Void) { listener.withLock { $0 = new } }

        fileprivate func set(_ time: Double?) {
            begun.withLock { $0 = time }
            if time != nil { listener.withLock { $0 }?() }
        }
    }

    /// - Parameter uid: whose connection it is.
    init(ledger: Ledger, uid: UInt32, progress: Progress) {
        (self.ledger, self.uid, self.progress) = (ledger, uid, progress)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        let begun = isWithinFrame ? progress.unfinishedSince : nil
        if buffer.readableBytes == 0 { buffer = bytes } else { buffer.writeBuffer(&bytes) }
        frames = 0
        do {
            while try advance(context) {}
        } catch {
            (state, buffer) = (.failed, ByteBuffer())
            context.fireErrorCaught(error)
        }
        letGo()
        progress.set(isWithinFrame ? (frames == 0 ? begun : nil) ?? MonotonicClock.now() : nil)
    }

    /// What is left must not keep, nor grow behind, what was read before it: at most one read's bytes are copied.
    private func letGo() {
        guard frames > 0 || buffer.readableBytes == 0 else { return }
        var rest = ByteBuffer()
        rest.writeBuffer(&buffer)
        buffer = rest
    }

    private var isWithinFrame: Bool {
        switch state {
        case .head: buffer.readableBytes > 0
        case .payload, .skipping: true
        case .failed: false
        }
    }

    /// One step on; false where more bytes are needed.
    private func advance(_ context: ChannelHandlerContext) throws -> Bool {
        switch state {
        case .failed:
            buffer = ByteBuffer()
            return false
        case .head:
            guard let length = buffer.readInteger(as: UInt32.self) else { return false }
            try begin(Int(length))
            return true
        case .payload(let length, let reservation):
            guard let payload = buffer.readSlice(length: length) else { return false }
            state = .head
            frames += 1
            context.fireChannelRead(wrapInboundOut(.payload(payload, reservation)))
            return true
        case .skipping(let length, let left):
            return skip(context, length, left)
        }
    }

    private func begin(_ length: Int) throws {
        guard length <= EbbProtocol.maxFrameBytes else { throw FrameError.tooLarge(length) }
        guard length > Self.promisedBytes else {
            state = .payload(length: length, nil)
            return
        }
        // Twice: the bytes, and what is decoded from them.
        if let reservation = ledger.reserve(.texts, length * 2, uid: uid) {
            state = .payload(length: length, reservation)
        } else {
            state = .skipping(length: length, left: length)
        }
    }

    private func skip(_ context: ChannelHandlerContext, _ length: Int, _ left: Int) -> Bool {
        let kept = min(Self.idBytes, length)
        if left == length {
            guard buffer.readableBytes >= kept else { return false }
            let id = Self.id(buffer.readSlice(length: kept) ?? ByteBuffer())
            state = .skipping(length: length, left: length - kept)
            context.fireChannelRead(wrapInboundOut(.refused(id: id, bytes: length)))
            return true
        }
        let now = min(left, buffer.readableBytes)
        buffer.moveReaderIndex(forwardBy: now)
        state = left == now ? .head : .skipping(length: length, left: left - now)
        if left == now { frames += 1 }
        return left == now
    }

    /// The id of an envelope that begins with it, as all encoders write it; else 0.
    private static func id(_ start: ByteBuffer) -> UInt64 {
        var start = start
        guard start.readInteger(as: UInt8.self) == 0x08 else { return 0 }
        var id: UInt64 = 0
        var shift: UInt64 = 0
        while shift < 64, let byte = start.readInteger(as: UInt8.self) {
            id |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return id }
            shift += 7
        }
        return 0
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .inputClosed? = event as? ChannelEvent { endOfInput(context) }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        endOfInput(context)
        context.fireChannelInactive()
    }

    private func endOfInput(_ context: ChannelHandlerContext) {
        guard isWithinFrame else { return }
        (state, buffer) = (.failed, ByteBuffer())
        progress.set(nil)
        context.fireErrorCaught(FrameError.incomplete)
    }
}
