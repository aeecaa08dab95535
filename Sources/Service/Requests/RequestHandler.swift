import EbbProtocol
import Engine
import Governor

/// Who asks: the process at the other end, and its connection's number.
struct Client: Sendable {
    let peer: Peer
    let connection: UInt64

    /// - Parameter deadlineMilliseconds: from now; 0 for any time.
    func origin(_ priority: EbbPriority, deadlineMilliseconds: UInt32) throws -> RequestOrigin {
        guard let priority = RequestPriority(priority) else { throw ServiceError(.badRequest, "an unknown priority") }
        let deadline =
            deadlineMilliseconds > 0 ? MonotonicClock.now() + Double(deadlineMilliseconds) / 1000 : nil
        return RequestOrigin(uid: peer.uid, connection: connection, priority: priority, deadline: deadline)
    }
}

/// Answers requests. One for all connections.
struct RequestHandler: Sendable {
    let registry: ModelRegistry
    let thread: EngineThread
    let access: AccessControl
    let operatorSource: OperatorSource
    let wakeMonitor: @Sendable () -> Void
    let pressure: @Sendable () -> PressureView
    let events: EventHub
    let statusReport: @Sendable () async throws -> EbbStatus
    let isDraining: @Sendable () -> Bool

    typealias Reply = @Sendable (EbbEnvelope.OneOf_Body) async throws -> Void

    /// Answers one request with all its messages.
    /// - Throws: ``ServiceError`` and whatever else went wrong: the caller answers with a Failure.
    func handle(_ body: EbbEnvelope.OneOf_Body, client: Client, reply: Reply, started: (any Cancellable) -> Void)
        async throws
    {
        let peer = client.peer
        switch body {
        case .ping(let ping):
            var pong = EbbPong()
            pong.payload = ping.payload
            try await reply(.pong(pong))
        case .generate(let request): try await generate(request, client, reply, started)
        case .embed(let request): try await embed(request, client, reply, started)
        case .tokenize(let request):
            let model = try await registry.require(request.model)
            var tokens = EbbTokens()
            tokens.ids = model.tokenizer.encode(
                request.text, addSpecial: request.addSpecial, parseSpecial: request.parseSpecial)
            try await reply(.tokens(tokens))
        case .detokenize(let request):
            var text = EbbText()
            text.text = try await registry.require(request.model).tokenizer.decode(request.ids)
            try await reply(.text(text))
        case .listModels:
            var models = EbbModels()
            models.models = await registry.list()
            try await reply(.models(models))
        case .getStatus: try await reply(.status(try await statusReport()))
        case .load(let request):
            try demandControl(peer, "load a model")
            try refuseWhileDraining()
            _ = try await registry.require(request.model)
            var status = EbbStatus()
            let model = try await thread.perform { core in core.model(request.model).map { ($0.status, $0.regions) } }
            status.models = [model].compactMap { $0 }.map { status, regions in
                var status = status
                regions.measure(into: &status)
                return status
            }
            try await reply(.status(status))
        case .unload(let request):
            try demandControl(peer, "unload a model")
            try await registry.unload(request.model)
            try await reply(.done(EbbDone()))
        case .setMode(let request):
            try demandControl(peer, "set a model's mode")
            guard let wish = ModelState.Wish(request.mode) else { throw ServiceError(.badRequest, "an unknown mode") }
            _ = try await registry.require(request.model)
            try await thread.perform { try $0.setWish(wish, of: request.model) }
            try await reply(.done(EbbDone()))
        case .setPreference(let request):
            try demandControl(peer, "set a model's preference")
            try await setPreference(request)
            try await reply(.done(EbbDone()))
        case .setPressure(let request):
            try demandControl(peer, "set the level of pressure")
            try setPressure(request)
            try await reply(.done(EbbDone()))
        case .subscribe: try await subscribe(reply, started)
        case .hello, .cancel, .welcome, .pong, .failure, .delta, .finished, .tokens, .text, .models, .done, .status,
            .embeddings, .event:
            throw ServiceError(.badRequest, "this message is no request")
        }
    }

    func refuseWhileDraining() throws {
        if isDraining() { throw ServiceError.shuttingDown }
    }
}
