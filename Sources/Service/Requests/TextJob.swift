import Synchronization

/// A piece of work of the ``TextPool``, as the work itself sees it.
package final class TextJob: Sendable {
    private let ledger: Ledger
    private let cancelled = Atomic<Bool>(false)
    private let held = Mutex<[Ledger.Reservation]>([])

    init(_ ledger: Ledger) { self.ledger = ledger }

    /// Whether nobody waits for the result any more: long work asks now and then, and ends.
    package var isCancelled: Bool { cancelled.load(ordering: .relaxed) }

    func cancel() { cancelled.store(true, ordering: .relaxed) }

    /// - Throws: ``ServiceError/cancelled`` where nobody waits any more.
    package func demandWanted() throws {
        if isCancelled { throw ServiceError.cancelled }
    }

    /// Promises memory for as long as the job runs.
    /// - Throws: ``ServiceError`` (OUT_OF_MEMORY) where there is none to promise.
    package func reserve(_ bytes: Int, for what: String) throws {
        let reservation = try ledger.promise(.texts, bytes, for: what)
        held.withLock { $0.append(reservation) }
    }

    /// Gives back what was promised.
    func release() { held.withLock { $0 = [] } }
}
