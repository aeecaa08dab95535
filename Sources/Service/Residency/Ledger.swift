import Governor
import Synchronization

/// What accepted work may take, promised before it takes any: a request that was let in is never ended for want of memory.
/// Used from every thread.
package final class Ledger: Sendable {
    package enum Kind: String, Sendable, CaseIterable {
        /// KV cache of accepted requests.
        case kv
        /// Tokens of prompts and of texts to embed.
        case prompts
        /// Texts that wait to be, or are being, rendered and tokenized, with the memory that it takes.
        case texts
        /// Answers that wait for clients to read them.
        case replies
        /// Kept conversations.
        case prefixes
        /// Weights that are being expanded.
        case expanding
    }

    /// A promise; it ends when it is let go.
    package final class Reservation: Sendable {
        private let ledger: Ledger
        package let kind: Kind
        private let uid: UInt32?
        private let held: Mutex<Int>

        fileprivate init(_ ledger: Ledger, _ kind: Kind, _ bytes: Int, _ uid: UInt32?) {
            self.ledger = ledger
            self.kind = kind
            self.uid = uid
            held = Mutex(bytes)
        }

        deinit { shrink(to: 0) }

        package var bytes: Int { held.withLock { $0 } }

        /// Gives back what is beyond `bytes`.
        package func shrink(to bytes: Int) {
            let freed = held.withLock { held in
                let rest = min(held, max(0, bytes))
                defer { held = rest }
                return held - rest
            }
            if freed > 0 { ledger.giveBack(kind, freed, uid) }
        }
    }

    private struct Book {
        var room: Int
        var promised = [Int](repeating: 0, count: Kind.allCases.count)
        var total = 0
        /// What is promised to users by name.
        var users: [UInt32: Int] = [:]

        /// Half of the room is one user's at most; what is first asked for may be more.
        func isWithinShare(_ bytes: Int, _ uid: UInt32) -> Bool {
            guard let mine = users[uid], mine > 0 else { return true }
            return bytes <= room / 2 - mine
        }
    }

    private let book: Mutex<Book>

    /// - Parameter room: bytes that may be promised in all.
    package init(room: Int) { book = Mutex(Book(room: max(0, room))) }

    /// Changes what may be promised from now on; what has been promised holds.
    package func setRoom(_ bytes: Int) { book.withLock { $0.room = max(0, bytes) } }

    /// Promises bytes; nil where there is no room for them now.
    /// - Parameter uid: whose share of the room it is; nil for what is shared out elsewhere.
    package func reserve(_ kind: Kind, _ bytes: Int, uid: UInt32? = nil) -> Reservation? {
        let wanted = max(0, bytes)
        let isPromised = book.withLock { book in
            guard wanted <= book.room - book.total, uid.map({ book.isWithinShare(wanted, $0) }) ?? true else {
                return false
            }
            book.total += wanted
            book.promised[kind.index] += wanted
            if let uid { book.users[uid, default: 0] += wanted }
            return true
        }
        return isPromised ? Reservation(self, kind, wanted, uid) : nil
    }

    private func giveBack(_ kind: Kind, _ bytes: Int, _ uid: UInt32?) {
        book.withLock { book in
            book.total -= bytes
            book.promised[kind.index] -= bytes
            guard let uid, let mine = book.users[uid] else { return }
            book.users[uid] = mine > bytes ? mine - bytes : nil
        }
    }

    /// Bytes that may still be promised; negative where the room has become less than what was promised.
    package var free: Int { book.withLock { $0.room - $0.total } }
    /// Bytes that can be promised when nothing is.
    package var room: Int { book.withLock { $0.room } }
    /// What is promised, by kind.
    package var entries: [(kind: Kind, bytes: Int)] {
        book.withLock { book in Kind.allCases.map { ($0, book.promised[$0.index]) } }
    }
}

extension Ledger {
    /// Promises memory, or refuses with a reason.
    /// - Throws: ``ServiceError`` (OUT_OF_MEMORY): without a time to retry where it would not fit with all else gone.
    func promise(_ kind: Kind, _ bytes: Int, for what: String, uid: UInt32? = nil) throws -> Reservation {
        if let reservation = reserve(kind, bytes, uid: uid) { return reservation }
        let need = "\(what) needs about \(Admission.mib(bytes))"
        guard bytes <= room else {
            throw ServiceError(
                .outOfMemory,
                "\(need), and Ebb may take \(max(0, room) >> 20) MiB beside what it holds: send less at a time, give it more "
                    + "(memoryBudget), or let go of models that are pinned to dequantized (ebbctl mode NAME auto)")
        }
        throw ServiceError(
            .outOfMemory,
            "\(need); \(max(0, free) >> 20) MiB are left beside what other requests were promised, and one user may have half",
            retryAfter: 1000)
    }
}

extension Ledger.Kind {
    fileprivate var index: Int {
        switch self {
        case .kv: 0
        case .prompts: 1
        case .texts: 2
        case .replies: 3
        case .prefixes: 4
        case .expanding: 5
        }
    }
}
