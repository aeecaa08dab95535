import EbbProtocol
import NIOCore
import NIOPosix

/// One connection, after its handshake.
final class ClientConnection: Sendable {
    private let channel: any Channel
    private let router: Router
    let welcome: EbbWelcome

    private init(channel: any Channel, router: Router, welcome: EbbWelcome) {
        self.channel = channel
        self.router = router
        self.welcome = welcome
    }

    deinit { channel.close(promise: nil) }

    static func open(_ socket: String, client: String) async throws -> ClientConnection {
        let router = Router()
        let channel: any Channel
        do {
            channel = try await ClientBootstrap(group: NIOSingletons.posixEventLoopGroup)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.addEbbFraming()
                        try channel.pipeline.syncOperations.addHandler(router)
                    }
                }
                .connect(unixDomainSocketPath: socket).get()
        } catch {
            throw unreachable(socket, error)
        }
        var hello = EbbHello()
        hello.versionMin = EbbProtocol.versions.lowerBound
        hello.versionMax = EbbProtocol.versions.upperBound
        hello.client = client
        let (id, answers) = try router.begin()
        defer { router.end(id) }
        try await channel.writeAndFlush(EbbEnvelope(id: id, .hello(hello)))
        for try await answer in answers {
            switch answer {
            case .welcome(let welcome): return ClientConnection(channel: channel, router: router, welcome: welcome)
            case .failure(let failure): throw ClientError(failure)
            default: throw ClientError(.protocolViolation, "ebbd did not answer the handshake")
            }
        }
        throw ClientError(.protocolViolation, "ebbd did not answer the handshake")
    }

    private static func unreachable(_ socket: String, _ error: any Error) -> ClientError {
        let why: String
        switch (error as? IOError)?.errnoCode {
        case 2: why = "there is no such socket; is ebbd running? (systemctl start ebbd, or ebbd --socket \(socket))"
        case 111: why = "nobody listens; ebbd has stopped (systemctl start ebbd)"
        case 13: why = "permission denied; are you in the group ebb?"
        default: why = "\(error)"
        }
        return ClientError(.unreachable, "cannot reach ebbd at \(socket): \(why)", retryAfter: .seconds(1))
    }

    var isOpen: Bool { !router.isClosed }

    func close() async throws { try await channel.close() }

    /// Sends a request and returns its one answer. Cancelling the task gives the request up.
    func call(_ body: EbbEnvelope.OneOf_Body) async throws -> EbbEnvelope.OneOf_Body {
        for try await answer in try stream(body) {
            if case .failure(let failure) = answer { throw ClientError(failure) }
            return answer
        }
        throw CancellationError()
    }

    /// Sends a request and returns all its answers. Ending the iteration early cancels the request.
    func stream(_ body: EbbEnvelope.OneOf_Body) throws -> Router.Stream {
        let (id, answers) = try router.begin()
        let envelope = EbbEnvelope(id: id, body)
        let (stream, continuation) = Router.Stream.makeStream()
        let forwarding = Task { [channel] in
            do {
                try await channel.writeAndFlush(envelope)
                for try await answer in answers {
                    let isLast = answer.isLast
                    if isLast { router.end(id) }
                    continuation.yield(answer)
                    if isLast { break }
                }
                continuation.finish()
            } catch {
                continuation.finish(throwing: error)
            }
        }
        continuation.onTermination = { [router, channel] _ in
            forwarding.cancel()
            guard router.end(id) else { return }
            var cancel = EbbCancel()
            cancel.request = id
            // Its own answer is of no interest: the id is not waited for.
            channel.writeAndFlush(EbbEnvelope(id: UInt64.max - id, .cancel(cancel)), promise: nil)
        }
        return stream
    }
}

extension EbbEnvelope.OneOf_Body {
    /// Whether a request gets no answer after this one.
    fileprivate var isLast: Bool {
        switch self {
        case .delta, .event: false
        default: true
        }
    }
}
