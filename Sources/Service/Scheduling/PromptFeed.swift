import Engine

/// The tokens that a generation has still to run: pieces of its prompt, then each token that was drawn.
struct PromptFeed {
    private let prompt: [Int32]
    /// Prompt tokens that are in the KV cache, or in the step that is being made up.
    private(set) var fed: Int
    private var next: Int32?

    /// - Parameter fed: tokens that the KV cache holds already.
    init(_ prompt: [Int32], fed: Int) {
        self.prompt = prompt
        self.fed = min(fed, prompt.count)
    }

    /// Prompt tokens that are left.
    var left: Int { prompt.count - fed }

    /// The next input of a sequence.
    /// - Parameter rows: at most so many prompt tokens; a token that was drawn is one.
    /// - Returns: nil where there is nothing to run.
    mutating func input(_ sequence: KVSequence, rows: Int) -> StepInput? {
        guard left > 0 else {
            return next.map { StepInput(sequence: sequence, tokens: CollectionOfOne($0), logits: .last) }
        }
        let piece = prompt[fed..<min(prompt.count, fed + max(1, rows))]
        fed = piece.endIndex
        return StepInput(sequence: sequence, tokens: piece, logits: left == 0 ? .last : .none)
    }

    mutating func draw(_ token: Int32) { next = token }
}
