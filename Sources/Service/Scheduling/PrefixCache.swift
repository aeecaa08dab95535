import Engine

/// KV caches of conversations that have been answered, kept for their next turn: a prompt of the same user that begins
/// with the same tokens shares their blocks. Where a new one needs room, the least recently used of the user who holds
/// most goes first. Used by the engine thread alone.
struct PrefixCache {
    struct Entry {
        let tokens: [Int32]
        let sequence: KVSequence
        /// Whose conversation it is: others learn nothing of it, not even from the time that their prompts take.
        var uid: UInt32
        /// Whether every user may go on from it.
        var isShared: Bool
        /// What its keys and values were computed with.
        var adapters: [AdapterUse] = []
        /// The first tokens that were computed as a reproducible request computes them.
        var steadyTokens = 0
        /// When it was last used, monotonic seconds.
        var used = 0.0
        /// What the ledger holds for it; those that share its blocks hold on to it.
        var promise: Ledger.Reservation?
    }

    /// Where a prompt can go on from.
    struct Match {
        fileprivate let index: Int
        let tokens: Int
    }

    /// Bytes that all entries may hold.
    let limit: Int
    private static let mostEntries = 16
    /// The most recently used last.
    private(set) var entries: [Entry] = []

    init(limit: Int) { self.limit = limit }

    var count: Int { entries.count }
    /// Bytes of the entries; blocks that two share count twice.
    var byteCount: Int { entries.reduce(0) { $0 + $1.sequence.byteCount } }
    var oldest: Double? { entries.first?.used }

    /// The longest beginning of a prompt that this user may share.
    /// - Parameters:
    ///   - adapters: only of what was computed with just these.
    ///   - steady: only of what was computed as a reproducible request computes it.
    func match(_ prompt: [Int32], uid: UInt32, adapters: [AdapterUse] = [], steady: Bool) -> Match? {
        var best: Match?
        for (index, entry) in entries.enumerated()
        where (entry.uid == uid || entry.isShared) && entry.adapters == adapters {
            var common = zip(entry.tokens, prompt).prefix { $0 == $1 }.count
            if steady { common = min(common, entry.steadyTokens) }
            // At least the last token has to be run for its logits.
            let tokens = entry.sequence.shareable(min(common, prompt.count - 1))
            if tokens > best?.tokens ?? 0 { best = Match(index: index, tokens: tokens) }
        }
        return best
    }

    /// A sequence that holds what was found, and what the ledger holds for the blocks that it shares.
    /// nil where its blocks can be shared no more.
    mutating func fork(_ match: Match, now: Double) -> (sequence: KVSequence, promise: Ledger.Reservation?)? {
        var entry = entries.remove(at: match.index)
        entry.used = now
        entries.append(entry)
        let fork: KVSequence? = entry.sequence.fork(match.tokens)
        return fork.map { ($0, entry.promise) }
    }

    /// Keeps a conversation.
    /// - Parameter promise: has the ledger hold its bytes; nil where it cannot, and then nothing is kept.
    mutating func keep(_ entry: Entry, promise: (Int) -> Ledger.Reservation?) {
        let bytes = entry.sequence.byteCount
        guard limit > 0, bytes <= limit, entry.tokens.count >= KVPool.tokensPerBlock else { return }
        // What the new one continues is no longer needed.
        for index in entries.indices.reversed() {
            let old = entries[index]
            guard old.uid == entry.uid, old.isShared == entry.isShared, old.adapters == entry.adapters,
                entry.tokens.starts(with: old.tokens)
            else { continue }
            drop(index)
        }
        while !entries.isEmpty, entries.count >= Self.mostEntries || byteCount > limit - bytes {
            drop(leastDeserved(beside: entry.uid, bytes))
        }
        guard let held = promise(bytes) else { return }
        var entry = entry
        entry.promise = held
        entries.append(entry)
    }

    /// The entry that is to make room for a new one: the oldest of the user who, the new one counted, has the largest
    /// share of the bytes or of the entries.
    private func leastDeserved(beside uid: UInt32, _ bytes: Int) -> Int {
        func share(_ bytes: Int, _ count: Int) -> Double {
            max(Double(bytes) / Double(max(1, limit)), Double(count) / Double(Self.mostEntries))
        }
        var held: [UInt32: (bytes: Int, count: Int)] = [:]
        for entry in entries {
            let own = held[entry.uid] ?? (entry.uid == uid ? (bytes, 1) : (0, 0))
            held[entry.uid] = (own.bytes + entry.sequence.byteCount, own.count + 1)
        }
        let most = held.max {
            (share($0.value.bytes, $0.value.count), $0.key) < (share($1.value.bytes, $1.value.count), $1.key)
        }
        return entries.firstIndex { $0.uid == most?.key } ?? 0
    }

    mutating func replace(with entries: [Entry]) { self.entries = entries }

    mutating func dropOldest() {
        if !entries.isEmpty { drop(0) }
    }

    /// Forgets all; bytes that came back at most.
    mutating func drop() -> Int {
        let bytes = byteCount
        while !entries.isEmpty { drop(entries.count - 1) }
        return bytes
    }

    private mutating func drop(_ index: Int) {
        let entry = entries.remove(at: index)
        // Blocks that running requests share stay, and so does what is held for them.
        entry.promise?.shrink(to: entry.sequence.sharedByteCount)
    }
}
