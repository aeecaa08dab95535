import EbbProtocol
import Engine
import Synchronization
import Text

/// A generation on the engine's side. Used by the engine thread alone.
final class Generation {
    let handle: GenerationHandle
    let request: GenerationRequest
    let sequence: KVSequence
    private var sampler: Sampler
    private var detokenizer: IncrementalDetokenizer
    private var stopFilter: StopFilter
    private let endTokens: Set<Int32>
    private let modeChangesBefore: Int
    private let clock = ContinuousClock()

    /// The prompt and what has been generated.
    private(set) var tokens: [Int32]
    /// Prompt tokens that have been through the model, and how many of them another request had sent.
    private var fed: Int
    let reused: Int
    private var next: Int32 = 0
    private(set) var generated = 0
    private let started: ContinuousClock.Instant
    private var decodeStarted: ContinuousClock.Instant?
    private var stalledSince: ContinuousClock.Instant?
    private(set) var isDone = false

    /// Seconds without progress after which a reader is given up.
    static let stallLimit = Duration.seconds(30)

    /// - Parameter sequence: empty, or with the first tokens of the prompt.
    init(
        _ request: GenerationRequest, handle: GenerationHandle, model: DecoderModel, sequence: KVSequence,
        modeChanges: Int
    ) {
        self.request = request
        self.handle = handle
        self.sequence = sequence
        fed = sequence.count
        reused = sequence.count
        tokens = request.prompt
        sampler = Sampler(request.sampling)
        detokenizer = IncrementalDetokenizer(model.tokenizer)
        stopFilter = StopFilter(request.stop)
        endTokens = model.tokenizer.endOfGeneration
        modeChangesBefore = modeChanges
        started = clock.now
        for token in request.prompt { sampler.accept(token) }
    }

    var isPrefilling: Bool { fed < request.prompt.count }
    /// Tokens generated per second of decode so far, and prompt tokens per second of prefill.
    private(set) var prefillSeconds = 0.0
    var decodeSeconds: Double { decodeStarted.map { (clock.now - $0).seconds } ?? 0 }

    /// Ends the generation where its client cancelled or stopped reading; true if it can take part in the next step.
    func isReady() -> Bool {
        if handle.isCancelled {
            fail(.cancelled)
            return false
        }
        guard handle.isStalled else {
            stalledSince = nil
            return true
        }
        let since = stalledSince ?? clock.now
        stalledSince = since
        if clock.now - since > Self.stallLimit {
            fail(ServiceError(.slowReader, "the client has not read its stream for 30 s"))
        }
        return false
    }

    /// The tokens for the next step: one, or a piece of the prompt of at most `room` tokens. Ends the generation and
    /// returns nil where the context or the KV cache has no room for them: the others of the step go on.
    /// - Parameter makeRoom: gives up what can be given up in the KV cache; false where that is nothing.
    func input(room: Int, makeRoom: () -> Bool) -> StepInput? {
        let wanted = isPrefilling ? min(room, request.prompt.count - fed) : 1
        do {
            do {
                try sequence.reserve(wanted)
            } catch {
                guard makeRoom() else { throw error }
                try sequence.reserve(wanted)
            }
        } catch {
            fail(ServiceError.of(error))
            return nil
        }
        guard isPrefilling else { return StepInput(sequence: sequence, tokens: CollectionOfOne(next), logits: .last) }
        let end = min(fed + room, request.prompt.count)
        defer { fed = end }
        let isLast = end == request.prompt.count
        return StepInput(sequence: sequence, tokens: request.prompt[fed..<end], logits: isLast ? .last : .none)
    }

    /// Takes the logits of the last token.
    func take(_ logits: UnsafeMutableBufferPointer<Float>, modeChanges: Int) {
        if decodeStarted == nil {
            prefillSeconds = (clock.now - started).seconds
            decodeStarted = clock.now
        }
        next = sampler.sample(logits)
        sampler.accept(next)
        tokens.append(next)
        if endTokens.contains(next) { return finish(.stop, modeChanges) }
        generated += 1
        let (text, stopped) = stopFilter.append(detokenizer.append(next))
        if !text.isEmpty { handle.send(.delta(text: text, tokens: generated)) }
        if stopped { return finish(.stop, modeChanges) }
        if let most = request.maxTokens, generated >= most { return finish(.length, modeChanges) }
        if sequence.count >= sequence.limit { finish(.length, modeChanges) }
    }

    private func finish(_ reason: GenerationSummary.Reason, _ modeChanges: Int) {
        let rest = stopFilter.finish(detokenizer.finish())
        if !rest.isEmpty { handle.send(.delta(text: rest, tokens: generated)) }
        handle.send(
            .finished(
                GenerationSummary(
                    reason: reason, promptTokens: request.prompt.count, generatedTokens: generated,
                    prefillSeconds: prefillSeconds, decodeSeconds: decodeSeconds,
                    modeChanges: modeChanges - modeChangesBefore, reusedTokens: reused)))
        isDone = true
    }

    func fail(_ error: ServiceError) {
        guard !isDone else { return }
        handle.send(.failed(error))
        isDone = true
        sequence.reset()
    }
}
