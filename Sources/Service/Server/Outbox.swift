import EbbProtocol
import Governor
import NIOCore
import Synchronization

/// What waits to leave for one client. Bounded in bytes: whoever has more to say waits, and the connection takes no new
/// request meanwhile. Frames wait here and not in the channel, which gets a little at a time, so that they can be let
/// go where the client does not read.
///
/// Used from every task; the channel is written to on its event loop.
final class Outbox: Sendable {
    private struct Frame {
        var bytes: ByteBuffer
        /// Whether small frames are gathered in it.
        var isShared = false
        let reservation: Ledger.Reservation?
        /// Whether a part of it has left: the rest must follow, or nothing after it would be a frame.
        var hasBegun = false
    }

    private enum Ending {
        case no
        /// Closes once all has left.
        case afterLast
        case closed
    }

    private struct State {
        var frames = CircularBuffer<Frame>()
        /// Bytes that have not left, those in the channel included.
        var queued = 0
        var inChannel = 0
        var mostQueued = 0
        /// Whether there was no memory for more.
        var isShort = false
        var ending = Ending.no
        var waiting: [CheckedContinuation<Void, Never>] = []
        /// Monotonic seconds at which a byte left, or began to wait.
        var lastProgress = 0.0
    }

    private let channel: any Channel
    private let coder: FrameCoder
    private let ledger: Ledger
    private let uid: UInt32
    private let limit: Int
    /// Told when something waits to leave.
    private let onWaiting = Mutex<(@Sendable () -> Void)?>(nil)
    private let state = Mutex(State())

    /// Bytes that the channel is given at a time, and that it holds at most.
    private static let sliceBytes = 64 << 10
    private static let channelBytes = 128 << 10
    /// Frames below this are gathered, so that many of them take little more than their bytes.
    private static let smallBytes = 4 << 10
    private static let sharedBytes = 64 << 10

    /// - Parameters:
    ///   - uid: whose connection it is.
    ///   - limit: bytes that may wait.
    init(_ channel: any Channel, coder: FrameCoder, ledger: Ledger, uid: UInt32, limit: Int) {
        (self.channel, self.coder, self.ledger, self.uid, self.limit) = (channel, coder, ledger, uid, limit)
    }

    /// Queues an envelope, and returns when there is room for more.
    /// - Throws: ``ServiceError``: FRAME_TOO_LARGE, OUT_OF_MEMORY, or CANCELLED where nothing leaves any more.
    func send(_ envelope: EbbEnvelope) async throws {
        let bytes = try await coder.encode(envelope)
        if bytes.readableBytes < Self.smallBytes {
            try put { gather(bytes, &$0) }
        } else {
            let reservation = try ledger.promise(
                .replies, bytes.readableBytes, for: "an answer of \(bytes.readableBytes) bytes", uid: uid)
            try put { Self.append(Frame(bytes: bytes, reservation: reservation), &$0) }
        }
        await room()
    }

    /// Until there is room for more, or nothing leaves any more.
    func room() async {
        await withCheckedContinuation { continuation in
            let goes = state.withLock { state in
                let goes = state.queued <= most(state) || state.ending != .no
                if !goes { state.waiting.append(continuation) }
                return goes
            }
            if goes { continuation.resume() }
        }
    }

    private func most(_ state: State) -> Int { state.isShort ? min(limit, Self.sharedBytes) : limit }

    private func put(_ append: (inout State) -> Void) throws {
        let goes = try state.withLock { state in
            guard state.ending == .no else { throw ServiceError.cancelled }
            let isFirst = state.queued == 0
            append(&state)
            return isFirst || state.inChannel < Self.channelBytes
        }
        if goes { channel.eventLoop.execute { self.pump() } }
    }

    /// Adds a small frame to the last ones of its kind that wait. The first are not worth a promise in the ledger, so
    /// that who reads is answered where there is no room; where there is none for more, whoever has more to say waits.
    private func gather(_ bytes: ByteBuffer, _ state: inout State) {
        guard let last = state.frames.indices.last else {
            return Self.append(Frame(bytes: bytes, isShared: true, reservation: nil), &state)
        }
        if state.frames[last].isShared, !state.frames[last].hasBegun,
            state.frames[last].bytes.readableBytes + bytes.readableBytes <= Self.sharedBytes
        {
            state.frames[last].bytes.writeImmutableBuffer(bytes)
            return Self.count(bytes, &state)
        }
        let promise = ledger.reserve(.replies, 2 * Self.sharedBytes, uid: uid)
        if promise == nil { state.isShort = true }
        Self.append(Frame(bytes: bytes, isShared: true, reservation: promise), &state)
    }

    /// Counts bytes that begin to wait.
    private static func count(_ bytes: ByteBuffer, _ state: inout State) {
        if state.queued == 0 { state.lastProgress = MonotonicClock.now() }
        state.queued += bytes.readableBytes
        state.mostQueued = max(state.mostQueued, state.queued)
    }

    private static func append(_ frame: Frame, _ state: inout State) {
        count(frame.bytes, &state)
        state.frames.append(frame)
    }

    // MARK: On the event loop

    private func pump() {
        var wrote = false
        while let (slice, reservation) = nextSlice() {
            let count = slice.readableBytes
            let left = channel.eventLoop.makePromise(of: Void.self)
            left.futureResult.whenSuccess {
                self.left(count)
                withExtendedLifetime(reservation) {}
            }
            channel.write(slice, promise: left)
            wrote = true
        }
        if wrote { channel.flush() }
        if queuedBytes > 0 { onWaiting.withLock { $0 }?() }
    }

    /// Has someone told, on the event loop, when something waits that has not left at once.
    func listen(_ new: @escaping @Sendable () -> Void) { onWaiting.withLock { $0 = new } }

    /// With the promise of its frame's memory when it is the last one of it.
    private func nextSlice() -> (ByteBuffer, Ledger.Reservation?)? {
        state.withLock { state in
            guard state.ending != .closed, state.inChannel < Self.channelBytes, var frame = state.frames.popFirst(),
                let slice = frame.bytes.readSlice(length: min(Self.sliceBytes, frame.bytes.readableBytes))
            else { return nil }
            state.inChannel += slice.readableBytes
            frame.hasBegun = true
            guard frame.bytes.readableBytes > 0 else { return (slice, frame.reservation) }
            state.frames.prepend(frame)
            return (slice, nil)
        }
    }

    private func left(_ count: Int) {
        let (waiting, closes) = state.withLock { state in
            state.queued -= count
            state.inChannel -= count
            state.lastProgress = MonotonicClock.now()
            let waiting = state.queued <= most(state) ? state.waiting : []
            if !waiting.isEmpty { state.waiting = [] }
            if state.queued <= Self.sharedBytes { state.isShort = false }
            return (waiting, state.ending == .afterLast && state.queued == 0)
        }
        for continuation in waiting { continuation.resume() }
        if closes { channel.close(promise: nil) } else { pump() }
    }

    // MARK: The end

    /// Sends what is queued, then `last`, then closes: at the latest after `seconds`.
    /// - Parameters:
    ///   - dropping: whether what is queued is let go instead, but for a frame that has begun to leave.
    ///   - patient: whether the seconds begin anew with every byte that leaves.
    func finish(_ last: EbbFailure? = nil, dropping: Bool = false, within seconds: Double, patient: Bool = false) {
        let frame = last.flatMap { try? FrameEncoder.frame(EbbEnvelope(id: 0, .failure($0))) }
        let (first, isEmpty, waiting) = state.withLock { state in
            guard state.ending == .no else { return (false, false, [CheckedContinuation<Void, Never>]()) }
            if dropping { Self.drop(&state) }
            if let frame { Self.append(Frame(bytes: frame, reservation: nil), &state) }
            state.ending = .afterLast
            defer { state.waiting = [] }
            return (true, state.queued == 0, state.waiting)
        }
        for continuation in waiting { continuation.resume() }
        guard first else { return }
        guard !isEmpty else { return channel.close(promise: nil) }
        channel.eventLoop.execute {
            self.pump()
            self.close(after: seconds, seconds, patient)
        }
    }

    private func close(after rest: Double, _ seconds: Double, _ patient: Bool) {
        channel.eventLoop.scheduleTask(in: .milliseconds(Int64(rest * 1000) + 1)) {
            let since = MonotonicClock.now() - self.state.withLock { $0.lastProgress }
            guard patient, since < seconds, self.channel.isActive else { return self.channel.close(promise: nil) }
            self.close(after: seconds - since, seconds, patient)
        }
    }

    private static func drop(_ state: inout State) {
        let begun = state.frames.first.flatMap { $0.hasBegun ? $0 : nil }
        state.frames.removeAll()
        state.queued = state.inChannel
        if let begun { append(begun, &state) }
    }

    /// The channel is closed: nobody waits any more.
    func closed() {
        let waiting = state.withLock { state in
            state.ending = .closed
            state.frames.removeAll()
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    // MARK: Looking at it

    /// Seconds for which something has waited without a byte of it leaving; 0 where nothing waits.
    func stalled(now: Double) -> Double {
        state.withLock { $0.queued > 0 && $0.ending == .no ? now - $0.lastProgress : 0 }
    }

    var queuedBytes: Int { state.withLock { $0.queued } }
    /// Bytes that waited at one time at most.
    var mostQueuedBytes: Int { state.withLock { $0.mostQueued } }
    var isEnding: Bool { state.withLock { $0.ending != .no } }
}
