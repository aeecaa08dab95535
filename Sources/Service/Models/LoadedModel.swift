import Engine

/// A loaded model as the connections see it: what turns text into tokens, without the engine thread.
struct LoadedModel: Sendable {
    let name: String
    let text: ModelText
    let contextLimit: Int
    /// nil for a decoder.
    let encoder: EncoderTraits?
    var isEncoder: Bool { encoder != nil }

    /// - Throws: ``ServiceError`` where an encoder is asked for text, or a decoder for embeddings.
    func demand(encoder: Bool) throws {
        guard isEncoder != encoder else { return }
        guard let traits = self.encoder else {
            throw ServiceError(
                .badRequest, "\(name) is a decoder: it makes text, and no embeddings or scores (ebbctl run)")
        }
        let what =
            traits.isReranker ? "it scores texts for a query (ebbctl rerank)" : "it makes embeddings (ebbctl embed)"
        throw ServiceError(.badRequest, "\(name) is an encoder: \(what), and no text")
    }

    /// - Throws: ``ServiceError`` where it is no encoder, or one for something else.
    func demandEncoder(reranker: Bool) throws -> EncoderTraits {
        try demand(encoder: true)
        guard let encoder, encoder.isReranker == reranker else {
            throw ServiceError(
                .badRequest,
                reranker
                    ? "\(name) makes embeddings and cannot rank texts: a model with a classification head can"
                    : "\(name) ranks texts for a query and makes no embeddings (ebbctl rerank)")
        }
        return encoder
    }
}

/// What an encoder's requests need to know of it.
struct EncoderTraits: Sendable {
    /// Values of an embedding.
    let embeddingSize: Int
    /// Whether embeddings have length 1.
    let normalizes: Bool
    let isReranker: Bool
    /// ``EncoderConfig/pairEnds``.
    let pairEnds: Int
    let prompts: EmbeddingPrompts

    init(_ model: EncoderModel) {
        (embeddingSize, normalizes) = (model.config.embeddingLength, model.config.normalize)
        (isReranker, pairEnds, prompts) = (model.config.isReranker, model.config.pairEnds, model.prompts)
    }
}
