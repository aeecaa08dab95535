import EbbClient

/// What a model has written, apart by what it is.
struct Answer {
    var text = ""
    var thinking = ""
    var calls: [ToolCall] = []
    /// What began as a call and is none, or not yet.
    var openCall = ""
    var summary: GenerationSummary?
}

/// Shows an answer as it comes, and its speed when it is done: the answer and calls of tools on standard output, what the
/// model thinks on standard error.
struct AnswerView {
    /// Whether anything is shown.
    let shows: Bool
    let showsThinking: Bool

    func show(_ generation: Generation) async throws -> Answer {
        var answer = Answer()
        var isThinking = false
        var isWritten = false
        do {
            for try await event in generation {
                switch event {
                case .thinking(let piece):
                    answer.thinking += piece
                    if !isThinking, isWritten, shows, showsThinking { Terminal.error("") }
                    isThinking = true
                    if shows, showsThinking { Terminal.dimmed(piece) }
                case .text(let piece):
                    end(&isThinking, answer)
                    answer.text += piece
                    isWritten = true
                    if shows { try Terminal.generated(piece) }
                case .call(let piece, let call):
                    end(&isThinking, answer)
                    answer.openCall = call == nil ? answer.openCall + piece : ""
                    if let call { answer.calls.append(call) }
                    isWritten = true
                    if shows { try Terminal.generated(piece) }
                case .finished(let summary): answer.summary = summary
                }
            }
        } catch {
            end(&isThinking, answer)
            // The error begins a line of its own.
            if shows, isWritten, Terminal.isTerminal { Terminal.error("") }
            throw error
        }
        end(&isThinking, answer)
        if shows, let summary = answer.summary { try finish(summary) }
        return answer
    }

    /// The end of what the model thinks: what follows begins a line of its own.
    private func end(_ isThinking: inout Bool, _ answer: Answer) {
        guard isThinking else { return }
        isThinking = false
        guard shows, showsThinking else { return }
        Terminal.error(answer.thinking.hasSuffix("\n") ? "" : "\n")
    }

    private func finish(_ summary: GenerationSummary) throws {
        try Terminal.out("\n")
        let kept = summary.reusedTokens > 0 ? " (\(summary.reusedTokens) more were kept)" : ""
        let changes = summary.modeChanges > 0 ? ", \(summary.modeChanges) changes of mode" : ""
        let end = summary.reason == .length ? ", cut at the length limit" : ""
        Terminal.error(
            "[prefill \(summary.promptTokens - summary.reusedTokens) tokens\(kept), \(Human.decimal(summary.prefillRate, 1)) t/s; decode "
                + "\(summary.generatedTokens) tokens, \(Human.decimal(summary.decodeRate, 1)) t/s\(changes)\(end)]")
    }
}

extension AnswerView {
    /// For machines.
    struct Report: Encodable {
        struct Call: Encodable { let id, name, arguments: String }

        let text: String
        let thinking: String?
        /// What began as a call and was cut off, or is none.
        let unfinished_call: String?
        let tool_calls: [Call]?
        let reason: String
        let prompt_tokens, reused_tokens, generated_tokens, mode_changes: Int
        let prefill_tokens_per_second, decode_tokens_per_second: Double

        init(_ answer: Answer, hidesThinking: Bool) {
            text = answer.text
            thinking = answer.thinking.isEmpty || hidesThinking ? nil : answer.thinking
            unfinished_call = answer.openCall.allSatisfy(\.isWhitespace) ? nil : answer.openCall
            let calls = answer.calls.map { Call(id: $0.id, name: $0.name, arguments: $0.argumentsJSON) }
            tool_calls = calls.isEmpty ? nil : calls
            let summary = answer.summary
            reason = summary?.reason == .length ? "length" : "stop"
            prompt_tokens = summary?.promptTokens ?? 0
            reused_tokens = summary?.reusedTokens ?? 0
            generated_tokens = summary?.generatedTokens ?? 0
            mode_changes = summary?.modeChanges ?? 0
            prefill_tokens_per_second = summary?.prefillRate ?? 0
            decode_tokens_per_second = summary?.decodeRate ?? 0
        }
    }
}
