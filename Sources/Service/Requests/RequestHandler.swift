import EbbProtocol
import Engine
import Governor

/// Answers requests: each kind in a file of its own. One for all connections.
struct RequestHandler: Sendable {
    let registry: ModelRegistry
    let adapters: AdapterCatalog
    let thread: EngineThread
    let texts: TextPool
    let ledger: Ledger
    let limits: ServiceLimits
    let variables: TemplateVariables
    let access: AccessControl
    let operatorSource: OperatorSource
    let lookAtPressure: @Sendable () async -> Void
    let pressure: @Sendable () -> PressureView
    let events: EventHub
    let statusReport: @Sendable () async throws -> EbbStatus
    let isDraining: @Sendable () -> Bool

    typealias Reply = @Sendable (EbbEnvelope.OneOf_Body) async throws -> Void

    /// Answers one request with all its messages. Cancelling the task gives it up, wherever it is.
    /// - Throws: ``ServiceError`` and whatever else went wrong: the caller answers with a Failure.
    func answer(_ body: EbbEnvelope.OneOf_Body, _ client: Client, _ reply: Reply) async throws {
        switch body {
        case .ping(let request): try await reply(.pong(EbbPong(request)))
        case .generate(let request): try await generate(request, client, reply)
        case .embed(let request): try await reply(.embeddings(try await embed(request, client)))
        case .rerank(let request): try await reply(.reranked(try await rerank(request, client)))
        case .tokenize(let request): try await reply(.tokens(try await tokenize(request, client)))
        case .detokenize(let request): try await reply(.text(try await detokenize(request, client)))
        case .render(let request): try await reply(.rendered(try await render(request, client)))
        case .listModels: try await reply(.models(try await listModels(client)))
        case .load(let request): try await reply(.status(try await load(request, client)))
        case .unload(let request): try await reply(.done(try await unload(request, client)))
        case .setMode(let request): try await reply(.done(try await setMode(request, client)))
        case .setPreference(let request): try await reply(.done(try await setPreference(request, client)))
        case .setPressure(let request): try await reply(.done(try await setPressure(request, client)))
        case .getStatus: try await reply(.status(try await status(client)))
        case .subscribe: try await subscribe(client, reply)
        case .hello, .cancel, .welcome, .pong, .failure, .delta, .finished, .tokens, .text, .models, .done, .status,
            .embeddings, .event, .rendered, .reranked:
            throw ServiceError(.badRequest, "this message is no request")
        }
    }

    func demandControl(_ client: Client, _ what: String) throws {
        guard access.mayControl(client.peer) else {
            throw ServiceError(
                .permissionDenied,
                "uid \(client.peer.uid) may not \(what): root, the daemon's user and the admin group may")
        }
    }
}
