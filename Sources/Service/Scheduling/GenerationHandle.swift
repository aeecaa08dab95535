import Synchronization

/// The client's end of a running generation.
final class GenerationHandle: Sendable {
    let events: AsyncStream<GenerationEvent>
    private let continuation: AsyncStream<GenerationEvent>.Continuation
    private let cancelled = Atomic<Bool>(false)
    /// Events that the client has not taken yet.
    private let waiting = Atomic<Int>(0)

    /// Events that may wait before the generation pauses: a slow reader stalls its own stream only.
    static let waitingLimit = 256

    init() { (events, continuation) = AsyncStream.makeStream(of: GenerationEvent.self) }

    /// Ends the generation before the engine's next step.
    func cancel() { cancelled.store(true, ordering: .relaxed) }

    /// Says that an event has been passed on.
    func taken() { _ = waiting.subtract(1, ordering: .relaxed) }

    var isCancelled: Bool { cancelled.load(ordering: .relaxed) }
    var isStalled: Bool { waiting.load(ordering: .relaxed) >= Self.waitingLimit }

    func send(_ event: GenerationEvent) {
        _ = waiting.add(1, ordering: .relaxed)
        continuation.yield(event)
        switch event {
        case .delta: break
        case .finished, .failed: continuation.finish()
        }
    }
}
