import EbbProtocol
import Text

/// Texts become tokens, and tokens texts. No model is loaded for that: its tokenizer is enough.
extension RequestHandler {
    func tokenize(_ request: EbbTokenize, _ client: Client) async throws -> EbbTokens {
        let bytes = try RequestBounds(limits).demand(request.text.utf8.count, "the text")
        let tokenizer = try await registry.text(request.model, client.origin).tokenizer
        return try await texts.run(.text(bytes: bytes), client.origin, cost: bytes) { job in
            try job.reserve(tokenizer.workingBytes(forUTF8Count: bytes), for: "a text of \(bytes) bytes")
            let ids = try tokenizer.encode(
                request.text, addSpecial: request.addSpecial, parseSpecial: request.parseSpecial,
                isCancelled: { job.isCancelled })
            return try EbbTokens(fitting: ids)
        }
    }

    func detokenize(_ request: EbbDetokenize, _ client: Client) async throws -> EbbText {
        let bytes = try RequestBounds(limits).demand(
            request.ids.count * MemoryLayout<Int32>.size, "the list of tokens")
        let tokenizer = try await registry.text(request.model, client.origin).tokenizer
        return try await texts.run(.text(bytes: bytes), client.origin, cost: bytes) { job in
            if let id = request.ids.first(where: { !(0..<tokenizer.vocabularySize).contains(Int($0)) }) {
                throw ServiceError(
                    .badRequest,
                    "\(id) is no token of \(request.model): it has those from 0 to \(tokenizer.vocabularySize - 1)")
            }
            // A byte that is no UTF-8 becomes three.
            let textBytes = tokenizer.byteCount(of: request.ids)
            try ReplyBounds.demand(textBytes, "the text", "send fewer tokens at a time")
            try job.reserve(textBytes * 5, for: "a text of \(request.ids.count) tokens")
            return try EbbText(fitting: tokenizer.decode(request.ids))
        }
    }
}
