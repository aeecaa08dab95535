import Engine

/// KV caches of conversations that have been answered, kept for their next turn: a prompt that begins with the same
/// tokens shares their blocks. The least recently used goes first. Used by the engine thread alone.
struct PrefixCache {
    struct Entry {
        let tokens: [Int32]
        let sequence: KVSequence
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

    /// A sequence that holds the beginning of a prompt, and is to be told the rest; nil where none is known.
    mutating func sequence(for prompt: [Int32]) -> KVSequence? {
        var best: (index: Int, tokens: Int)?
        for (index, entry) in entries.enumerated() {
            let common = zip(entry.tokens, prompt).prefix { $0 == $1 }.count
            // At least the last token has to be run for its logits.
            let tokens = entry.sequence.shareable(min(common, prompt.count - 1))
            if tokens > best?.tokens ?? 0 { best = (index, tokens) }
        }
        guard let best else { return nil }
        let entry = entries.remove(at: best.index)
        entries.append(entry)
        return entry.sequence.fork(best.tokens)
    }

    /// Keeps a sequence that holds these tokens.
    mutating func keep(_ tokens: [Int32], _ sequence: KVSequence) {
        guard limit > 0, sequence.byteCount <= limit, tokens.count >= KVPool.tokensPerBlock else { return }
        // What the new one continues is no longer needed.
        entries.removeAll { tokens.starts(with: $0.tokens) }
        entries.append(Entry(tokens: tokens, sequence: sequence))
        while entries.count > Self.mostEntries || byteCount > limit { entries.removeFirst() }
    }

    mutating func replace(with entries: [Entry]) { self.entries = entries }

    /// Forgets all; bytes that came back at most.
    mutating func drop() -> Int {
        defer { entries = [] }
        return byteCount
    }
}
