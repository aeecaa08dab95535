import Engine
import Governor

/// What the models of an engine share where requests are let in: the ledger's promises, and what gives way to them. Used
/// by the engine thread alone.
final class AdmissionDesk {
    private let ledger: Ledger
    /// All models, in any order.
    var models: () -> [HostedModel] = { [] }
    /// Why the system has no memory for so many bytes of something, and whether it never will; nil where it has.
    var refusal: (String, Int) -> (why: String, isLasting: Bool)? = { _, _ in nil }

    /// Promises bytes, or nil where there is no room.
    var promise: (Ledger.Kind, Int) -> Ledger.Reservation?

    init(ledger: Ledger) {
        self.ledger = ledger
        promise = { ledger.reserve($0, $1) }
    }

    /// Bytes that can be promised when nothing else is.
    var room: Int { ledger.room }

    /// Whether running generations, of any model, hold memory that will come back.
    var isAwaited: Bool { ledger.entries.contains { $0.kind == .kv && $0.bytes > 0 } }

    /// Has the least recently used of all kept conversations dropped, if bytes are promised that would do.
    /// - Returns: false where there is none, or all of them together would not do.
    func giveWay(for bytes: Int) -> Bool {
        let models = models()
        guard models.contains(where: { $0.prefixBytes > 0 }) else { return false }
        // What is held for them, not what they take: blocks that have turned int8 since take less.
        let held = ledger.entries.reduce(0) { $0 + ($1.kind == .prefixes ? $1.bytes : 0) }
        guard ledger.free + held >= bytes else { return false }
        let oldest = models.min { ($0.oldestPrefix ?? .infinity) < ($1.oldestPrefix ?? .infinity) }
        oldest?.dropOldestPrefix()
        return true
    }
}
