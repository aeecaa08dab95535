import EbbProtocol
import Foundation
import Governor
import Logging
import Synchronization

/// Changes of level, mode and residency: told to every subscriber, and to the log, where the journal gets them as fields.
final class EventHub: Sendable {
    private let logger: Logger
    /// Told that there was an event.
    private let onEvent: @Sendable () -> Void

    private struct State {
        var subscribers: [UInt64: (connection: UInt64, continuation: AsyncStream<EbbEvent>.Continuation)] = [:]
        var hasEnded = false
    }

    private let state = Mutex(State())
    private let next = Atomic<UInt64>(0)

    /// Events that wait for a slow subscriber; the oldest are lost first.
    private static let waiting = 4096
    /// Subscriptions of one connection: each keeps a task and a queue, and no admission bounds them.
    private static let mostPerConnection = 4

    init(logger: Logger, onEvent: @escaping @Sendable () -> Void = {}) {
        self.logger = logger
        self.onEvent = onEvent
    }

    /// Events from now on, until the subscription is cancelled or let go.
    /// - Parameter connection: whose it is.
    /// - Throws: ``ServiceError`` (BAD_REQUEST) for more than ``mostPerConnection`` at once.
    func subscribe(_ connection: UInt64) throws -> Subscription {
        let number = next.add(1, ordering: .relaxed).newValue
        let (events, continuation) = AsyncStream.makeStream(
            of: EbbEvent.self, bufferingPolicy: .bufferingNewest(Self.waiting))
        let hasEnded = try state.withLock { state in
            guard !state.hasEnded else { return true }
            guard state.subscribers.values.count(where: { $0.connection == connection }) < Self.mostPerConnection else {
                throw ServiceError(
                    .badRequest,
                    "a connection has at most \(Self.mostPerConnection) subscriptions: each tells the same")
            }
            state.subscribers[number] = (connection, continuation)
            return false
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { _ = $0.subscribers.removeValue(forKey: number) }
        }
        if hasEnded { continuation.finish() }
        return Subscription(events: events, continuation: continuation)
    }

    /// A client's stream of events.
    final class Subscription: Sendable {
        let events: AsyncStream<EbbEvent>
        private let continuation: AsyncStream<EbbEvent>.Continuation

        init(events: AsyncStream<EbbEvent>, continuation: AsyncStream<EbbEvent>.Continuation) {
            (self.events, self.continuation) = (events, continuation)
        }

        func cancel() { continuation.finish() }
    }

    /// Ends all subscriptions, those to come too; events still go to the log.
    func end() {
        let listeners = state.withLock { state in
            state.hasEnded = true
            return state.subscribers.values.map(\.continuation)
        }
        for listener in listeners { listener.finish() }
    }

    /// - Parameter level: of its line in the log.
    func publish(_ event: EbbEvent, level: Logger.Level = .info) {
        var event = event
        event.timeMs = UInt64(Date().timeIntervalSince1970 * 1000)
        let listeners = state.withLock { $0.subscribers.values.map(\.continuation) }
        for listener in listeners { listener.yield(event) }
        onEvent()
        log(event, level)
    }

    private func log(_ event: EbbEvent, _ level: Logger.Level) {
        var metadata: Logger.Metadata = ["EBB_REASON": "\(event.reason)", "EBB_EVENT": "\(event.what)"]
        if !event.model.isEmpty { metadata["EBB_MODEL"] = "\(event.model)" }
        switch event.kind {
        case .level: metadata["EBB_LEVEL"] = "\(event.what)"
        case .mode:
            metadata["EBB_MODE"] = event.what == "expanded" ? "dequantized" : "memory_low"
            metadata["EBB_EXPANDED_LAYERS"] = "\(event.expandedLayers)"
            if event.experts > 0 { metadata["EBB_EXPANDED_EXPERTS"] = "\(event.expandedExperts)" }
        default: break
        }
        if event.freedBytes != 0 { metadata["EBB_FREED_BYTES"] = "\(event.freedBytes)" }
        logger.log(level: level, "\(Self.sentence(event))", metadata: metadata)
    }

    private static func sentence(_ event: EbbEvent) -> String {
        switch event.kind {
        case .level: "pressure \(event.what)"
        case .mode:
            "\(event.model): \(event.what) \(event.changes); \(event.standing) are expanded"
        default: "\(event.model): \(event.what)"
        }
    }
}
