import EbbProtocol
import Engine
import Text

/// Texts become vectors, and pairs of texts scores.
extension RequestHandler {
    func embed(_ request: EbbEmbed, _ client: Client) async throws -> EbbEmbeddings {
        let origin = try client.origin(request.priority, deadlineMilliseconds: request.deadlineMs)
        let bytes = try RequestBounds(limits).bytes(of: request)
        let model = try await registry.require(request.model, origin, peer: client.peer)
        let encoder = try model.demandEncoder(reranker: false)
        let dimensions = try Self.dimensions(request, encoder, model.name)
        let prompt = try Self.prompt(request, encoder)
        try EbbEmbeddings.demandRoom(vectors: request.texts.count, values: dimensions)
        let tokens = try await texts.run(.text(bytes: bytes), origin, cost: bytes) { job in
            let longest = prompt.utf8.count + request.texts.reduce(0) { max($0, $1.utf8.count) }
            try job.reserve(model.text.tokenizer.workingBytes(forUTF8Count: longest), for: "a text of \(longest) bytes")
            return try request.texts.map { text in
                try job.demandWanted()
                let ids = try model.text.tokenizer.encode(
                    prompt + text, addSpecial: true, parseSpecial: false, isCancelled: { job.isCancelled })
                return EncoderModel.cut(ids, model.text.tokenizer, limit: model.contextLimit)
            }
        }
        var vectors = try await results(tokens, origin, model.name)
        if dimensions < encoder.embeddingSize {
            vectors = vectors.map { EncoderModel.truncated($0, to: dimensions, normalizing: encoder.normalizes) }
        }
        var answer = EbbEmbeddings(vectors)
        answer.truncated = Self.cut(tokens)
        return answer
    }

    /// Places of the texts that were cut.
    private static func cut(_ texts: [EncoderText]) -> [UInt32] {
        texts.enumerated().compactMap { $0.element.isCut ? UInt32($0.offset) : nil }
    }

    /// How many values of each embedding are answered.
    private static func dimensions(_ request: EbbEmbed, _ encoder: EncoderTraits, _ name: String) throws -> Int {
        guard request.dimensions > 0 else { return encoder.embeddingSize }
        guard let wanted = Int(exactly: request.dimensions), wanted <= encoder.embeddingSize else {
            throw ServiceError(
                .badRequest,
                "\(request.dimensions) dimensions are wanted, the embeddings of \(name) have \(encoder.embeddingSize)")
        }
        return wanted
    }

    private static func prompt(_ request: EbbEmbed, _ encoder: EncoderTraits) throws -> String {
        do {
            return try encoder.prompts.text(request.hasPrompt ? request.prompt : nil)
        } catch let error as EngineError {
            throw ServiceError(.badRequest, error.description)
        }
    }

    func rerank(_ request: EbbRerank, _ client: Client) async throws -> EbbReranked {
        let origin = try client.origin(request.priority, deadlineMilliseconds: request.deadlineMs)
        let bytes = try RequestBounds(limits).bytes(of: request)
        let model = try await registry.require(request.model, origin, peer: client.peer)
        let encoder = try model.demandEncoder(reranker: true)
        let pairs = try await texts.run(.text(bytes: bytes), origin, cost: bytes) { job in
            let tokenizer = model.text.tokenizer
            let longest = request.documents.reduce(request.query.utf8.count) { max($0, $1.utf8.count) }
            try job.reserve(tokenizer.workingBytes(forUTF8Count: longest), for: "a text of \(longest) bytes")
            func ids(_ text: String) throws -> [Int32] {
                try job.demandWanted()
                return try tokenizer.encode(
                    text, addSpecial: false, parseSpecial: false, isCancelled: { job.isCancelled })
            }
            let query = try ids(request.query)
            return try request.documents.map { document in
                EncoderModel.pair(
                    query, try ids(document), tokenizer, ends: encoder.pairEnds, limit: model.contextLimit)
            }
        }
        var answer = EbbReranked()
        answer.scores = try await results(pairs, origin, model.name).map { $0.first ?? .nan }
        answer.truncated = Self.cut(pairs)
        return answer
    }

    /// Has the engine compute what the model makes of each text.
    private func results(_ tokens: [EncoderText], _ origin: RequestOrigin, _ name: String) async throws -> [[Float]] {
        // Texts of several requests are computed together, so one that cannot be must not come that far.
        guard tokens.allSatisfy({ !$0.tokens.isEmpty }) else {
            throw ServiceError(.badRequest, "a text is empty, and \(name) puts no tokens around texts")
        }
        let count = tokens.reduce(0) { $0 + $1.tokens.count }
        let held = try ledger.promise(.prompts, count * MemoryLayout<Int32>.size, for: "a request of \(count) tokens")
        defer { withExtendedLifetime(held) {} }
        let wanted = EmbeddingRequest(texts: tokens, origin: origin)
        return try await withTaskCancellationHandler {
            try await wanted.wait { wanted in
                let accepted = thread.post { $0.submit(wanted, to: name) }
                if !accepted { wanted.finish(.failure(ServiceError.shuttingDown)) }
            }
        } onCancel: {
            wanted.cancel()
        }
    }
}
