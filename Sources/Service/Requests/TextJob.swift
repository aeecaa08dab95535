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

extension Ledger {
    /// Promises memory, or refuses with a reason.
    /// - Throws: ``ServiceError`` (OUT_OF_MEMORY): without a time to retry where it would not fit with all else gone.
    func promise(_ kind: Kind, _ bytes: Int, for what: String, uid: UInt32? = nil) throws -> Reservation {
        if let reservation = reserve(kind, bytes, uid: uid) { return reservation }
        let need = "\(what) needs about \((bytes + (1 << 20) - 1) >> 20) MiB"
        guard bytes <= room else {
            throw ServiceError(.outOfMemory, "\(need); Ebb may take \(max(0, room) >> 20) MiB: send less at a time")
        }
        throw ServiceError(
            .outOfMemory,
            "\(need); \(max(0, free) >> 20) MiB are left beside what other requests were promised, and one user may have half",
            retryAfter: 1000)
    }
}
