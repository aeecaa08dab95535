/// A loaded model as the connections see it: what turns text into tokens, without the engine thread.
struct LoadedModel: Sendable {
    let name: String
    let text: ModelText
    let contextLimit: Int
    let isEncoder: Bool
    /// Values of an embedding.
    let embeddingSize: Int

    /// - Throws: ``ServiceError`` where an encoder is asked for text, or a decoder for embeddings.
    func demand(encoder: Bool) throws {
        guard isEncoder != encoder else { return }
        let what = isEncoder ? "an encoder: it makes embeddings, not text" : "a decoder: it makes text, not embeddings"
        throw ServiceError(.badRequest, "\(name) is \(what)")
    }
}
