import EbbProtocol
import NIOCore
import Synchronization

/// The answers to one request, in their order, until the last: an asynchronous sequence. Letting go of it, or cancelling
/// the task that reads it, gives the request up.
struct Answers: AsyncSequence, Sendable {
    typealias Element = EbbEnvelope.OneOf_Body
    let request: PendingRequest

    struct AsyncIterator: AsyncIteratorProtocol {
        let request: PendingRequest

        func next() async throws -> EbbEnvelope.OneOf_Body? { try await request.next() }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(request: request) }
}

/// The reader's end of a request under way.
final class PendingRequest: Sendable {
    private let inbox: AnswerInbox
    private let giveUp: @Sendable () -> Void

    /// - Parameter giveUp: called, perhaps more than once, when nobody waits for more.
    init(_ inbox: AnswerInbox, giveUp: @escaping @Sendable () -> Void) {
        (self.inbox, self.giveUp) = (inbox, giveUp)
    }

    deinit { end() }

    func next() async throws -> EbbEnvelope.OneOf_Body? {
        try await withTaskCancellationHandler {
            try await inbox.next()
        } onCancel: {
            self.end()
        }
    }

    private func end() {
        giveUp()
        inbox.discard()
    }
}

/// Answers that have come and were not read yet. The connection counts their bytes, and stops reading where they are too
/// many; of events, which come without end, the oldest are lost instead.
final class AnswerInbox: Sendable {
    private typealias Reader = CheckedContinuation<EbbEnvelope.OneOf_Body?, any Error>

    private struct State {
        var answers = CircularBuffer<EbbEnvelope.OneOf_Body>()
        var readers = CircularBuffer<Reader>()
        var hasEnded = false
        var error: (any Error)?
    }

    private let state = Mutex(State())
    /// Told how many bytes came (positive) or were read (negative).
    private let count: @Sendable (Int) -> Void

    /// Events that wait for a slow reader.
    private static let mostEvents = 4096

    init(count: @escaping @Sendable (Int) -> Void) { self.count = count }

    func put(_ answer: EbbEnvelope.OneOf_Body) {
        let (reader, change) = state.withLock { state -> (Reader?, Int) in
            guard !state.hasEnded else { return (nil, 0) }
            if answer.isLastAnswer { state.hasEnded = true }
            if let reader = state.readers.popFirst() { return (reader, 0) }
            state.answers.append(answer)
            var change = answer.approximateBytes
            if case .event = answer, state.answers.count > Self.mostEvents, let lost = state.answers.popFirst() {
                change -= lost.approximateBytes
            }
            return (nil, change)
        }
        reader?.resume(returning: answer)
        if change != 0 { count(change) }
    }

    /// No more answers come. Those that have come are still read.
    func finish(throwing error: (any Error)? = nil) {
        let readers = state.withLock { state in
            if !state.hasEnded { (state.hasEnded, state.error) = (true, error) }
            return Self.takeReaders(&state)
        }
        for reader in readers { resume(reader, error) }
    }

    /// Nobody reads any more.
    func discard() {
        let (readers, bytes) = state.withLock { state in
            let bytes = state.answers.reduce(0) { $0 + $1.approximateBytes }
            state.answers.removeAll()
            (state.hasEnded, state.error) = (true, nil)
            return (Self.takeReaders(&state), bytes)
        }
        if bytes != 0 { count(-bytes) }
        for reader in readers { resume(reader, nil) }
    }

    private static func takeReaders(_ state: inout State) -> CircularBuffer<Reader> {
        defer { state.readers = CircularBuffer() }
        return state.readers
    }

    private func resume(_ reader: Reader, _ error: (any Error)?) {
        if let error { reader.resume(throwing: error) } else { reader.resume(returning: nil) }
    }

    /// The next answer; nil after the last.
    func next() async throws -> EbbEnvelope.OneOf_Body? {
        try await withCheckedThrowingContinuation { reader in
            enum Found {
                case answer(EbbEnvelope.OneOf_Body)
                case end((any Error)?)
                case nothing
            }
            let found = state.withLock { state -> Found in
                if let answer = state.answers.popFirst() { return .answer(answer) }
                guard state.hasEnded else {
                    state.readers.append(reader)
                    return .nothing
                }
                defer { state.error = nil }
                return .end(state.error)
            }
            switch found {
            case .answer(let answer):
                count(-answer.approximateBytes)
                reader.resume(returning: answer)
            case .end(let error): resume(reader, error)
            case .nothing: break
            }
        }
    }
}

extension EbbEnvelope.OneOf_Body {
    /// What it takes while it waits; answers that come alone are waited for, and take what was asked for.
    fileprivate var approximateBytes: Int {
        switch self {
        case .delta(let delta): 128 + delta.text.utf8.count
        case .event(let event): 256 + event.reason.utf8.count
        default: 128
        }
    }
}
