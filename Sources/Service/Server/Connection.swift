import CEbbSystem
import EbbProtocol
import Glibc
import Logging
import NIOCore
import Synchronization

/// One client: the handshake, then its requests, many at a time.
final class Connection: Sendable {
    private let channel: NIOAsyncChannel<EbbEnvelope, EbbEnvelope>
    private let handler: RequestHandler
    private let number: UInt64
    private let logger: Logger
    /// Requests under way. A generation has a handle once it is queued; a cancellation that comes earlier is remembered.
    private let running = Mutex<[UInt64: Request]>([:])

    /// Who it is, once that is known.
    private let client = Mutex<EbbClientStatus?>(nil)

    /// For `ebbctl top`: nil before the handshake.
    var status: EbbClientStatus? {
        let requests = running.withLock { $0.count }
        return client.withLock { client in
            client?.requests = UInt32(requests)
            return client
        }
    }

    private struct Request {
        var handle: (any Cancellable)?
        var isCancelled = false
    }

    private static let numbers = Atomic<UInt64>(0)

    init(_ channel: NIOAsyncChannel<EbbEnvelope, EbbEnvelope>, handler: RequestHandler, logger: Logger) {
        number = Self.numbers.add(1, ordering: .relaxed).newValue
        self.channel = channel
        self.handler = handler
        self.logger = logger
    }

    /// Serves until the client closes, misbehaves, or the task is cancelled. Whatever is under way then is cancelled.
    func run() async {
        do {
            let peer = try await Self.peer(of: channel.channel)
            logger.debug("connected", metadata: ["peer": "\(peer)"])
            try await channel.executeThenClose { inbound, outbound in
                try await self.serve(inbound, outbound, peer)
            }
        } catch {
            logger.debug("connection ended", metadata: ["error": "\(error)"])
        }
    }

    /// The peer's credentials, from the kernel.
    private static func peer(of channel: any Channel) async throws -> Peer {
        guard let provider = channel as? any SocketOptionProvider else {
            throw ServiceError(.internal, "the channel is no socket")
        }
        let credentials: ebb_peer = try await provider.unsafeGetSocketOption(
            level: .socket, name: NIOBSDSocket.Option(rawValue: SO_PEERCRED)
        ).get()
        return Peer(credentials)
    }

    private typealias Inbound = NIOAsyncChannelInboundStream<EbbEnvelope>
    private typealias Outbound = NIOAsyncChannelOutboundWriter<EbbEnvelope>

    private func serve(_ inbound: Inbound, _ outbound: Outbound, _ peer: Peer) async throws {
        do {
            var envelopes = inbound.makeAsyncIterator()
            guard let first = try await envelopes.next() else { return }
            guard try await greet(first, outbound) else { return }
            introduce(first.hello, peer)
            try await withThrowingDiscardingTaskGroup { group in
                defer {
                    cancelAll()
                    group.cancelAll()
                }
                while let envelope = try await envelopes.next() {
                    try await self.accept(envelope, outbound, peer) { work in group.addTask { await work() } }
                }
            }
        } catch let error as FrameError {
            logger.info("closing a connection", metadata: ["peer": "\(peer)", "reason": "\(error)"])
            let code: EbbCode = if case .tooLarge = error { .frameTooLarge } else { .badRequest }
            try? await outbound.write(EbbEnvelope(id: 0, .failure(EbbFailure(code, error.description))))
        }
    }

    private func greet(_ first: EbbEnvelope, _ outbound: Outbound) async throws -> Bool {
        guard case .hello(let hello)? = first.body else {
            let failure = EbbFailure(.badRequest, "the first frame must be Hello")
            try await outbound.write(EbbEnvelope(id: first.id, .failure(failure)))
            return false
        }
        let version = min(hello.versionMax, EbbProtocol.versions.upperBound)
        guard version >= max(hello.versionMin, EbbProtocol.versions.lowerBound) else {
            let failure = EbbFailure(
                .unsupportedVersion,
                "this daemon speaks version \(EbbProtocol.versions.lowerBound) to \(EbbProtocol.versions.upperBound), the client "
                    + "\(hello.versionMin) to \(hello.versionMax)")
            try await outbound.write(EbbEnvelope(id: first.id, .failure(failure)))
            return false
        }
        var welcome = EbbWelcome()
        welcome.version = version
        welcome.server = "ebbd/\(EbbProtocol.release)"
        welcome.features = ["generate", "chat", "tokenize", "modes", "embed", "events", "preferences", "pressure"]
        welcome.limits.maxFrameBytes = UInt32(EbbProtocol.maxFrameBytes)
        welcome.limits.maxInFlight = UInt32(EbbProtocol.maxInFlight)
        try await outbound.write(EbbEnvelope(id: first.id, .welcome(welcome)))
        return true
    }

    private func introduce(_ hello: EbbHello, _ peer: Peer) {
        var status = EbbClientStatus()
        (status.pid, status.uid) = (peer.pid, peer.uid)
        // Printed in terminals: no more than a name, and nothing that moves the cursor.
        status.name = String(
            hello.client.unicodeScalars.filter { $0.value >= 32 && $0.value != 127 }.map(Character.init).prefix(64))
        client.withLock { $0 = status }
    }

    /// Starts the work of a request, or refuses it.
    private func accept(
        _ envelope: EbbEnvelope, _ outbound: Outbound, _ peer: Peer,
        _ start: (@escaping @Sendable () async -> Void) -> Void
    ) async throws {
        let id = envelope.id
        func refuse(_ code: EbbCode, _ why: String, retry: UInt32? = nil) async throws {
            try await outbound.write(
                EbbEnvelope(id: id, .failure(EbbFailure(code, why, retryAfterMilliseconds: retry))))
        }
        guard let body = envelope.body else { return try await refuse(.badRequest, "an unknown or empty request") }
        guard id != 0 else { return try await refuse(.badRequest, "a request's id must not be 0") }
        if case .cancel(let cancel) = body {
            self.cancel(cancel.request)
            return try await outbound.write(EbbEnvelope(id: id, .done(EbbDone())))
        }
        enum Verdict { case accepted, taken, full }
        let verdict = running.withLock { running -> Verdict in
            if running[id] != nil { return .taken }
            if running.count >= EbbProtocol.maxInFlight { return .full }
            running[id] = Request()
            return .accepted
        }
        switch verdict {
        case .taken: return try await refuse(.badRequest, "a request with id \(id) is under way")
        case .full:
            return try await refuse(.overloaded, "\(EbbProtocol.maxInFlight) requests are under way", retry: 100)
        case .accepted: start { await self.work(id, body, outbound, peer) }
        }
    }

    private func work(_ id: UInt64, _ body: EbbEnvelope.OneOf_Body, _ outbound: Outbound, _ peer: Peer) async {
        do {
            try await handler.handle(
                body, client: Client(peer: peer, connection: number),
                reply: { try await outbound.write(EbbEnvelope(id: id, $0)) },
                started: { self.attach($0, to: id) })
            forget(id)
        } catch {
            forget(id)
            let error = ServiceError.of(error)
            if error.code == .slowReader {
                logger.info("disconnecting a slow reader", metadata: ["peer": "\(peer)"])
                channel.channel.close(promise: nil)
            }
            try? await outbound.write(EbbEnvelope(id: id, .failure(error.failure)))
        }
    }

    private func forget(_ id: UInt64) { running.withLock { _ = $0.removeValue(forKey: id) } }

    private func attach(_ handle: any Cancellable, to id: UInt64) {
        let cancelled = running.withLock { running in
            running[id]?.handle = handle
            return running[id]?.isCancelled ?? true
        }
        if cancelled { handle.cancel() }
    }

    private func cancel(_ id: UInt64) {
        let handle = running.withLock { running in
            running[id]?.isCancelled = true
            return running[id]?.handle
        }
        handle?.cancel()
    }

    private func cancelAll() {
        let handles = running.withLock { running in
            for id in running.keys { running[id]?.isCancelled = true }
            return running.values.compactMap(\.handle)
        }
        for handle in handles { handle.cancel() }
    }
}
