import EbbProtocol
import Engine
import Text

/// Texts become vectors.
extension RequestHandler {
    func embed(_ request: EbbEmbed, _ client: Client) async throws -> EbbEmbeddings {
        let origin = try client.origin(request.priority, deadlineMilliseconds: request.deadlineMs)
        let bytes = try RequestBounds(limits).bytes(of: request)
        let model = try await registry.require(request.model, origin, peer: client.peer)
        try model.demand(encoder: true)
        try EbbEmbeddings.demandRoom(vectors: request.texts.count, values: model.embeddingSize)
        let tokens = try await texts.run(.text(bytes: bytes), origin, cost: bytes) { job in
            let longest = request.texts.reduce(0) { max($0, $1.utf8.count) }
            try job.reserve(model.text.tokenizer.workingBytes(forUTF8Count: longest), for: "a text of \(longest) bytes")
            return try request.texts.map { text in
                try job.demandWanted()
                let ids = try model.text.tokenizer.encode(
                    text, addSpecial: true, parseSpecial: false, isCancelled: { job.isCancelled })
                return EncoderModel.cut(ids, limit: model.contextLimit)
            }
        }
        let count = tokens.reduce(0) { $0 + $1.count }
        let held = try ledger.promise(.prompts, count * MemoryLayout<Int32>.size, for: "a request of \(count) tokens")
        defer { withExtendedLifetime(held) {} }
        return EbbEmbeddings(try await vectors(EmbeddingRequest(texts: tokens, origin: origin), model.name))
    }

    /// Has the engine embed texts.
    private func vectors(_ wanted: EmbeddingRequest, _ name: String) async throws -> [[Float]] {
        try await withTaskCancellationHandler {
            try await wanted.wait { wanted in
                let accepted = thread.post { $0.submit(wanted, to: name) }
                if !accepted { wanted.finish(.failure(ServiceError.shuttingDown)) }
            }
        } onCancel: {
            wanted.cancel()
        }
    }
}
