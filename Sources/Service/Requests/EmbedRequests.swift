import EbbProtocol
import Engine

/// Texts become vectors.
extension RequestHandler {
    /// Texts of an embed request: 256 embeddings of 4,000 values fit a frame.
    private static let textLimit = 256

    func embed(
        _ request: EbbEmbed, _ client: Client, _ reply: Reply, _ started: (any Cancellable) -> Void
    ) async throws {
        try refuseWhileDraining()
        let model = try await registry.require(request.model)
        try model.demand(encoder: true)
        guard (1...Self.textLimit).contains(request.texts.count) else {
            throw ServiceError(
                .badRequest, "\(request.texts.count) texts in a request: 1 to \(Self.textLimit) are possible")
        }
        let wanted = EmbeddingRequest(
            texts: request.texts.map { EncoderModel.tokens($0, model.tokenizer, limit: model.contextLimit) },
            origin: try client.origin(request.priority, deadlineMilliseconds: request.deadlineMs))
        started(wanted)
        defer { wanted.cancel() }
        let name = request.model
        let found = try await wanted.wait { wanted in
            let accepted = thread.post { $0.submit(wanted, to: name) }
            if !accepted { wanted.finish(.failure(ServiceError.shuttingDown)) }
        }
        var answer = EbbEmbeddings()
        answer.vectors = found.map { values in
            var vector = EbbEmbeddings.Vector()
            vector.values = values
            return vector
        }
        try await reply(.embeddings(answer))
    }
}
