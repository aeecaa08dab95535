/// Open addressing with linear probing over a power of two of slots.
enum HashTable {
    /// Slots for so many entries: at most two thirds are taken.
    static func slots(for entries: Int) -> Int {
        var slots = 16
        while slots * 2 < entries * 3 { slots *= 2 }
        return slots
    }

    /// Slots that a look-up tries at most: far more than a table of real tokens needs, and a bound for one that was made
    /// to be slow.
    static let probeLimit = 1024

    static let overfull = FormatError("the tokenizer's tables cannot be made: too many entries fall together")

    /// Whether a table that was found in a file can be one.
    static func isPossible(_ slots: Int) -> Bool { slots > 0 && slots & (slots - 1) == 0 }

    /// The first slot from the hash's own on that is wanted; nil where `limit` slots are not.
    @inline(__always)
    static func find(_ hash: UInt64, slots: Int, limit: Int = probeLimit, _ isWanted: (Int) -> Bool) -> Int? {
        var slot = Int(truncatingIfNeeded: hash) & (slots - 1)
        for _ in 0..<min(slots, limit) {
            if isWanted(slot) { return slot }
            slot = (slot + 1) & (slots - 1)
        }
        return nil
    }
}
