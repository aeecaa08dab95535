import EbbProtocol
import Governor
import Glibc
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// One client: the handshake, then its requests, many at a time.
///
/// Ends when the client closes (what is under way is then cancelled), when it has shut down its side and got its answers,
/// when it misbehaves, or when the service stops.
final class Connection: Sendable {
    private let channel: NIOAsyncChannel<InboundFrame, ByteBuffer>
    let peer: Peer
    private let seat: Seats.Seat
    private let number: UInt64
    private let services: ConnectionServices
    private let coder: FrameCoder
    private let outbox: Outbox
    private let requests: RequestTable
    private let frames: FrameReader.Progress
    /// Monotonic seconds since when the next frame is the client's turn; nil while it is ours.
    private let listeningSince = Mutex<Double?>(nil)
    private let mostReceived = Atomic<Int>(0)
    /// What it said of itself in the handshake.
    private let greeting = Mutex<String?>(nil)

    private static let numbers = Atomic<UInt64>(0)
    /// Seconds that a last frame gets to leave.
    private static let lastFrameSeconds = 10.0
    /// Requests below this are not worth a promise: so status is told where there is no room for anything.
    private static let promisedBytes = 1 << 10

    private init(
        _ channel: NIOAsyncChannel<InboundFrame, ByteBuffer>, _ frames: FrameReader.Progress, _ client: Accepted,
        _ services: ConnectionServices
    ) {
        number = Self.numbers.add(1, ordering: .relaxed).newValue
        self.channel = channel
        self.frames = frames
        self.services = services
        (peer, seat) = (client.peer, client.seat)
        coder = FrameCoder(services.frames, RequestOrigin(uid: client.peer.uid, connection: number))
        outbox = Outbox(
            channel.channel, coder: coder, ledger: services.ledger, uid: client.peer.uid,
            limit: services.limits.maxQueuedReplyBytes)
        requests = RequestTable(limit: services.limits.maxRequestsPerConnection)
    }

    /// Takes over an accepted socket.
    static func open(_ client: Accepted, _ services: ConnectionServices) async throws -> Connection {
        let progress = FrameReader.Progress()
        let channel = try await ClientBootstrap(group: NIOSingletons.posixEventLoopGroup)
            // The end of what a client sends is not the end of what it waits for.
            .channelOption(.allowRemoteHalfClosure, value: true)
            .withConnectedSocket(client.descriptor) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        FrameReader(ledger: services.ledger, uid: client.peer.uid, progress: progress))
                    return try NIOAsyncChannel<InboundFrame, ByteBuffer>(
                        wrappingChannelSynchronously: channel,
                        configuration: .init(backPressureStrategy: .init(lowWatermark: 1, highWatermark: 1)))
                }
            }
        return Connection(channel, progress, client, services)
    }

    /// For `ebbctl top`: nil before the handshake.
    var status: EbbClientStatus? {
        guard let name = greeting.withLock({ $0 }) else { return nil }
        var status = EbbClientStatus()
        (status.pid, status.uid, status.name) = (peer.pid, peer.uid, name)
        status.requests = UInt32(clamping: requests.count)
        return status
    }

    /// Requests that wait for their last answer to be queued.
    var unanswered: Int { requests.unanswered }

    // MARK: Its life

    /// Serves until the end. Whatever is under way then is cancelled.
    func run() async {
        services.logger.debug("connected", metadata: ["peer": "\(peer)"])
        let work = Task { await self.serveThenClose() }
        channel.channel.closeFuture.whenComplete { _ in
            // Wholly closed, not only its sending side: nobody waits for an answer.
            self.requests.close(.cancelled)
            self.outbox.closed()
            work.cancel()
        }
        watch()
        await work.value
        let most = max(outbox.mostQueuedBytes, mostReceived.load(ordering: .relaxed))
        if most >= HeapTrimmer.worthwhile { services.trimmer.trimSoon() }
    }

    /// Lets what is queued leave, then closes.
    func finish(_ failure: ServiceError? = nil, within seconds: Double) {
        outbox.finish(failure?.failure, within: seconds)
    }

    /// Ends all requests, with this as their answer, and lets none begin.
    func fail(_ error: ServiceError) { requests.close(error) }

    private func serveThenClose() async {
        try? await channel.executeThenClose { inbound, _ in
            var last: ServiceError?
            do {
                try await self.serve(inbound)
            } catch {
                last = self.farewell(error)
            }
            if last != nil { self.requests.close(.cancelled) }
            self.outbox.finish(last?.failure, within: Self.lastFrameSeconds, patient: true)
            try? await self.channel.channel.closeFuture.get()
        }
    }

    /// What the client is told last.
    private func farewell(_ error: any Error) -> ServiceError? {
        switch error {
        case let error as FrameError:
            services.logger.info("closing a connection", metadata: ["peer": "\(peer)", "reason": "\(error)"])
            if case .tooLarge = error { return ServiceError(.frameTooLarge, error.description) }
            return ServiceError(.badRequest, error.description)
        case let error as ServiceError: return error
        default:
            services.logger.debug("connection ended", metadata: ["error": "\(error)"])
            return nil
        }
    }

    private func serve(_ inbound: NIOAsyncChannelInboundStream<InboundFrame>) async throws {
        var inbox = inbound.makeAsyncIterator()
        guard let first = try await next(&inbox) else { return }
        guard try await greet(first) else { return }
        try await withThrowingDiscardingTaskGroup { group in
            do {
                while let frame = try await next(&inbox) {
                    try await take(frame) { work in group.addTask { await work() } }
                    await outbox.room()
                }
            } catch {
                requests.close(.cancelled)
                throw error
            }
        }
    }

    private func next(_ inbox: inout NIOAsyncChannelInboundStream<InboundFrame>.AsyncIterator) async throws
        -> InboundFrame?
    {
        listeningSince.withLock { $0 = MonotonicClock.now() }
        defer { listeningSince.withLock { $0 = nil } }
        return try await inbox.next()
    }

    // MARK: The handshake

    /// False where there is no service for this client.
    private func greet(_ first: InboundFrame) async throws -> Bool {
        guard case .payload(let payload, _) = first else { throw FrameError.malformed }
        let outline = try payload.withUnsafeReadableBytes { try EnvelopeOutline($0) }
        do {
            guard outline.isHello, case .hello(let hello)? = try await coder.decode(payload).body else {
                throw ServiceError(.badRequest, "the first frame must be Hello")
            }
            let welcome = try Handshake.welcome(for: hello, limits: services.limits)
            greeting.withLock { $0 = Handshake.name(hello) }
            try await answer(outline.id, .welcome(welcome))
            return true
        } catch let error as ServiceError {
            try await answer(outline.id, .failure(error.failure))
            return false
        }
    }

    // MARK: Requests

    /// Starts the work of a request, or refuses it.
    private func take(_ frame: InboundFrame, _ start: (@escaping @Sendable () async -> Void) -> Void) async throws {
        switch frame {
        case .refused(let id, let bytes):
            let error = ServiceError(
                .outOfMemory, "there is no memory for a request of \(bytes) bytes", retryAfter: 1000)
            guard id != 0 else { throw error }
            try await answer(id, .failure(error.failure))
        case .payload(let payload, let reservation):
            mostReceived.store(
                max(mostReceived.load(ordering: .relaxed), payload.readableBytes), ordering: .relaxed)
            let outline = try payload.withUnsafeReadableBytes { try EnvelopeOutline($0) }
            // Its answer could not be told from the last word of a connection.
            guard outline.id != 0 else { throw ServiceError(.badRequest, "a request's id must not be 0") }
            do {
                try check(outline)
                let envelope = try await coder.decode(payload)
                try await begin(envelope, bytes: payload.readableBytes, reservation, start)
            } catch let error as ServiceError {
                try await answer(outline.id, .failure(error.failure))
            }
        }
    }

    /// What can be said of a request before it is decoded.
    private func check(_ outline: EnvelopeOutline) throws {
        guard outline.body != nil else { throw ServiceError(.badRequest, "an unknown or empty request") }
        guard !outline.repeats else {
            throw ServiceError(.badRequest, "a frame has one request, and a request one conversation")
        }
        guard !outline.hasAnswer else { throw ServiceError(.badRequest, "this message is no request") }
        guard outline.texts <= EbbProtocol.maxMessages else {
            throw ServiceError(
                .badRequest, "a request of more than \(EbbProtocol.maxMessages) texts")
        }
        guard outline.messages <= EbbProtocol.maxMessages else {
            throw ServiceError(
                .badRequest, "a chat of more than \(EbbProtocol.maxMessages) messages")
        }
    }

    private func begin(
        _ envelope: EbbEnvelope, bytes: Int, _ reservation: Ledger.Reservation?,
        _ start: (@escaping @Sendable () async -> Void) -> Void
    ) async throws {
        let id = envelope.id
        guard let body = envelope.body else { throw ServiceError(.badRequest, "an unknown or empty request") }
        switch body {
        case .cancel(let cancel):
            requests.cancel(cancel.request)
            try await answer(id, .done(EbbDone()))
        case .ping(let ping):
            // At once, so that one ping's answer is queued before the next is read.
            var pong = EbbPong()
            pong.payload = ping.payload
            try await answer(id, .pong(pong))
        default:
            if services.handler.isDraining(), !Self.isAnsweredWhileDraining(body) { throw ServiceError.shuttingDown }
            try requests.begin(id, bytes: bytes, memory: try memory(of: body, reservation, bytes))
            services.attention.begin()
            let work = Task { await self.work(id, body) }
            requests.attach(work, to: id)
            start {
                await withTaskCancellationHandler {
                    await work.value
                } onCancel: {
                    work.cancel()
                }
            }
        }
    }

    /// The promise of what a request says, kept until it has been answered: its frame's, or one of its own.
    private func memory(of body: EbbEnvelope.OneOf_Body, _ reservation: Ledger.Reservation?, _ bytes: Int) throws
        -> Ledger.Reservation?
    {
        switch body {
        // Nothing in them is kept, whatever was sent.
        case .subscribe, .getStatus, .listModels: return nil
        default: break
        }
        // What was decoded is left; the bytes themselves are gone.
        reservation?.shrink(to: bytes)
        if reservation != nil || bytes < Self.promisedBytes { return reservation }
        return try services.ledger.promise(.texts, bytes, for: "a request of \(bytes) bytes", uid: peer.uid)
    }

    private static func isAnsweredWhileDraining(_ body: EbbEnvelope.OneOf_Body) -> Bool {
        if case .getStatus = body { return true }
        return false
    }

    private func work(_ id: UInt64, _ body: EbbEnvelope.OneOf_Body) async {
        defer {
            requests.answered()
            services.attention.end()
        }
        let isAnswered = Atomic<Bool>(false)
        do {
            try await services.handler.answer(body, Client(peer: peer, connection: number)) { body in
                if body.isLastAnswer {
                    // The client may use the id again as soon as it reads this.
                    self.requests.free(id)
                    isAnswered.store(true, ordering: .relaxed)
                }
                try await self.answer(id, body)
            }
            guard !isAnswered.load(ordering: .relaxed) else { return }
            throw ServiceError.cancelled
        } catch {
            try? await answer(id, .failure(reason(id, error).failure))
        }
    }

    /// Why a request failed: what ended it, where it was ended.
    private func reason(_ id: UInt64, _ error: any Error) -> ServiceError {
        let ending = requests.free(id)
        let error = ServiceError.of(error)
        guard error.code == .cancelled else { return error }
        return ending ?? (services.handler.isDraining() ? .shuttingDown : error)
    }

    private func answer(_ id: UInt64, _ body: EbbEnvelope.OneOf_Body) async throws {
        try await outbox.send(EbbEnvelope(id: id, body))
    }

    // MARK: Watching over it

    /// Looks now and then for a client that does not go on, while it could: no handshake, half a frame, answers that it does
    /// not read.
    private func watch() {
        let limits = services.limits
        let start = MonotonicClock.now()
        let period = min(2.5, max(0.02, min(limits.handshakeSeconds, limits.slowReaderSeconds) / 4))
        let watch = StallWatch(channel.channel.eventLoop, period: period) { [weak self] in
            self?.look(now: MonotonicClock.now(), start) ?? false
        }
        frames.listen { watch.start() }
        outbox.listen { watch.start() }
        watch.start()
    }

    /// False where there is nothing that could stall.
    private func look(now: Double, _ start: Double) -> Bool {
        let limits = services.limits
        guard !outbox.isEnding else { return false }
        let hasGreeted = greeting.withLock { $0 } != nil
        if outbox.stalled(now: now) >= limits.slowReaderSeconds {
            end(
                ServiceError(
                    .slowReader, "nothing was read for \(Int(limits.slowReaderSeconds)) s while answers waited"),
                dropping: true)
        } else if !hasGreeted, now - start >= limits.handshakeSeconds {
            end(ServiceError(.badRequest, "no handshake within \(limits.handshakeSeconds) s"))
        } else if let begun = frames.unfinishedSince, let since = listeningSince.withLock({ $0 }),
            now - max(begun, since) >= limits.slowReaderSeconds
        {
            end(ServiceError(.badRequest, "a frame was begun and not ended for \(Int(limits.slowReaderSeconds)) s"))
        }
        return !hasGreeted || outbox.queuedBytes > 0 || frames.unfinishedSince != nil
    }

    private func end(_ error: ServiceError, dropping: Bool = false) {
        services.logger.info("closing a connection", metadata: ["peer": "\(peer)", "reason": "\(error)"])
        outbox.finish(error.failure, dropping: dropping, within: Self.lastFrameSeconds)
        requests.close(.cancelled)
    }
}

/// What all connections use.
struct ConnectionServices: Sendable {
    let handler: RequestHandler
    let limits: ServiceLimits
    let ledger: Ledger
    let attention: Attention
    let trimmer: HeapTrimmer
    let frames: FrameCoder.Queue
    let logger: Logger
}
