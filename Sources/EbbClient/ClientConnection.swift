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
                        let decoder = ByteToMessageHandler(
                            FrameDecoder(), maximumBufferSize: EbbProtocol.maxFrameBytes + 4)
                        try channel.pipeline.syncOperations.addHandlers(decoder, router)
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
        let answers = try send(.hello(hello), channel, router, mostBytes: EbbProtocol.maxFrameBytes)
        do {
            switch try await answers.makeAsyncIterator().next() {
            case .welcome(let welcome)?:
                return ClientConnection(channel: channel, router: router, welcome: welcome)
            case .failure(let failure)?: throw ClientError(failure)
            default: throw ClientError(.protocolViolation, "ebbd did not answer the handshake")
            }
        } catch {
            channel.close(promise: nil)
            throw error
        }
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

    var isOpen: Bool { router.closed == nil }

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
    /// - Throws: ``ClientError`` where it is too long for a frame, or the connection is closed.
    func stream(_ body: EbbEnvelope.OneOf_Body) throws -> Answers {
        let said = Int(welcome.limits.maxFrameBytes)
        let most = said > 0 ? min(said, EbbProtocol.maxFrameBytes) : EbbProtocol.maxFrameBytes
        return try Self.send(body, channel, router, mostBytes: most, for: self)
    }

    /// - Parameter connection: stays open as long as its answers are read, whoever else has let go of it.
    private static func send(
        _ body: EbbEnvelope.OneOf_Body, _ channel: any Channel, _ router: Router, mostBytes: Int,
        for connection: ClientConnection? = nil
    ) throws -> Answers {
        let (id, inbox) = try router.begin()
        let frame: ByteBuffer
        do {
            frame = try Self.frame(EbbEnvelope(id: id, body), mostBytes)
        } catch {
            router.end(id)
            throw error
        }
        channel.writeAndFlush(frame).whenFailure { error in
            // What the daemon said before it closed counts more than that it closed.
            router.close(
                ClientError(.unreachable, "the connection to ebbd is closed (\(error))", retryAfter: .seconds(1)))
        }
        return Answers(
            request: PendingRequest(inbox) {
                defer { withExtendedLifetime(connection) {} }
                guard router.end(id) else { return }
                cancel(id, channel)
            })
    }

    private static func frame(_ envelope: EbbEnvelope, _ mostBytes: Int) throws -> ByteBuffer {
        func tooLarge(_ bytes: Int) -> ClientError {
            ClientError(
                .refused(.frameTooLarge),
                "the request has \(bytes) bytes, ebbd takes \(mostBytes) at a time: send a shorter text, or fewer")
        }
        do {
            let frame = try FrameEncoder.frame(envelope)
            guard frame.readableBytes - 4 <= mostBytes else { throw tooLarge(frame.readableBytes - 4) }
            return frame
        } catch FrameError.tooLarge(let bytes) {
            throw tooLarge(bytes)
        }
    }

    private static func cancel(_ id: UInt64, _ channel: any Channel) {
        var cancel = EbbCancel()
        cancel.request = id
        // Its own answer is of no interest: the id is not waited for.
        guard let frame = try? FrameEncoder.frame(EbbEnvelope(id: UInt64.max - id, .cancel(cancel))) else { return }
        channel.writeAndFlush(frame, promise: nil)
    }
}
