import EbbProtocol
import Engine
import Governor

/// A generation on the engine's side. Used by the engine thread alone.
final class Generation {
    /// The arithmetic that all steps of a reproducible request have.
    enum Arithmetic: Hashable { case memoryLow, dequantized }

    let member: FairQueue.Member
    let handle: GenerationHandle
    let request: GenerationRequest
    let sequence: KVSequence
    /// Tokens that the KV cache will hold at most, what is reserved for; and the bytes of so many.
    let goal, bytes: Int
    /// nil: each step has the arithmetic that the layers have at that time.
    let arithmetic: Arithmetic?
    private var promises: [Ledger.Reservation]
    private var feed: PromptFeed
    private var sampler: Sampler
    private var text: AnswerText
    private let endTokens: Set<Int32>
    private let modeChangesBefore: Int
    private let clock = ContinuousClock()

    /// The prompt and what has been generated.
    private(set) var tokens: [Int32]
    /// Prompt tokens that an earlier request had sent.
    let reused: Int
    private(set) var generated = 0
    private let started: ContinuousClock.Instant
    private var decodeStarted: ContinuousClock.Instant?
    private var stalledSince: Double?
    /// How the answer has ended; it is told by ``conclude(modeChanges:)``.
    private(set) var ending: GenerationSummary.Reason?
    private(set) var isDone = false

    /// What a generation begins with.
    struct Start {
        /// Empty, or with the first tokens of the prompt.
        let sequence: KVSequence
        let arithmetic: Arithmetic?
        /// What the ledger holds for it.
        let promises: [Ledger.Reservation]
    }

    init(_ queued: QueuedGeneration, _ start: Start, model: DecoderModel, modeChanges: Int) {
        (request, handle, member, goal, bytes) = (
            queued.request, queued.handle, queued.member, queued.goal, queued.bytes
        )
        (sequence, arithmetic, promises) = (start.sequence, start.arithmetic, start.promises)
        reused = sequence.count
        feed = PromptFeed(request.prompt, fed: sequence.count)
        tokens = request.prompt
        sampler = Sampler(request.sampling)
        text = AnswerText(model.tokenizer, stop: request.stop, channels: request.channels)
        endTokens = model.tokenizer.endOfGeneration
        modeChangesBefore = modeChanges
        started = clock.now
        for token in request.prompt { sampler.accept(token) }
    }

    var promptLeft: Int { feed.left }
    /// Bytes that the ledger holds for it.
    var promisedBytes: Int { promises.reduce(0) { $0 + $1.bytes } }
    private(set) var prefillSeconds = 0.0
    var decodeSeconds: Double { decodeStarted.map { (clock.now - $0).seconds } ?? 0 }
    /// A client that does not read pauses its own generation only.
    var isStalled: Bool { handle.isStalled }

    /// Ends the generation where its client has cancelled it or stopped reading, or its deadline has passed.
    /// - Parameter patience: seconds that a client may let its stream wait.
    func attend(now: Double, patience: Double) {
        if handle.isCancelled { return fail(.cancelled) }
        if let late = ServiceError.late(request.origin, now: now) { return fail(late) }
        guard handle.isStalled else { return stalledSince = nil }
        let since = stalledSince ?? now
        stalledSince = since
        if now - since > patience {
            fail(ServiceError(.slowReader, "the client has not read its stream for \(Int(patience)) s"))
        }
    }

    /// The tokens for the next step: the one that was drawn, or a piece of the prompt.
    /// - Returns: nil where there is no room for them, which ends the generation; what was reserved prevents it.
    func input(rows: Int) -> StepInput? {
        guard var input = feed.input(sequence, rows: rows) else { return nil }
        input.adapters = request.adapters
        do {
            try sequence.reserve(input.tokens.count)
        } catch {
            fail(ServiceError.of(error))
            return nil
        }
        return input
    }

    /// Whether its adapters could be read, and whether their files are what they were.
    var hasWholeAdapters: Bool { !request.adapters.contains { $0.adapter.file.isCutShort } }
    var hasIntactAdapters: Bool { request.adapters.allSatisfy(\.adapter.file.isIntact) }

    /// Draws the next token from the logits of the last.
    func accept(_ logits: UnsafeMutableBufferPointer<Float>) {
        if decodeStarted == nil {
            prefillSeconds = (clock.now - started).seconds
            decodeStarted = clock.now
        }
        let token = sampler.sample(logits)
        sampler.accept(token)
        feed.draw(token)
        tokens.append(token)
        let isEnd = endTokens.contains(token)
        if !isEnd { generated += 1 }
        give(text.append(token))
        if isEnd || text.hasStopped {
            ending = .stop
        } else if generated >= request.maxTokens ?? .max || sequence.count >= sequence.limit {
            ending = .length
        }
    }

    private func give(_ parts: [AnswerPart]) {
        for part in parts { handle.send(.delta(part, tokens: generated)) }
    }

    /// Tells the client how the answer has ended.
    func conclude(modeChanges: Int) {
        guard var reason = ending, !isDone else { return }
        give(text.finish())
        if text.hasStopped { reason = .stop }
        handle.send(
            .finished(
                GenerationSummary(
                    reason: reason, promptTokens: request.prompt.count, generatedTokens: generated,
                    prefillSeconds: prefillSeconds, decodeSeconds: decodeSeconds,
                    modeChanges: modeChanges - modeChangesBefore, reusedTokens: reused)))
        isDone = true
        promises = []
    }

    func fail(_ error: ServiceError) {
        guard !isDone else { return }
        handle.send(.failed(error))
        isDone = true
        sequence.reset()
        promises = []
    }
}

extension ServiceError {
    /// What a request that is not answered in time is told; nil while there is time.
    static func late(_ origin: RequestOrigin, now: Double) -> ServiceError? {
        guard let deadline = origin.deadline, now > deadline else { return nil }
        return ServiceError(.deadlineExceeded, "the request's deadline passed before it was answered")
    }
}
