/// Open addressing with linear probing over a power of two of slots.
enum HashTable {
    /// Slots for so many entries: at most two thirds are taken.
    static func slots(for entries: Int) -> Int {
        var slots = 16
        while slots * 2 < entries * 3 { slots *= 2 }
        return slots
    }

    /// Whether a table that was found in a file can be one.
    static func isPossible(_ slots: Int) -> Bool { slots > 0 && slots & (slots - 1) == 0 }

    /// The first slot from the hash's own on that is wanted; nil where a full table has none.
    @inline(__always)
    static func find(_ hash: UInt64, slots: Int, _ isWanted: (Int) -> Bool) -> Int? {
        var slot = Int(truncatingIfNeeded: hash) & (slots - 1)
        for _ in 0..<slots {
            if isWanted(slot) { return slot }
            slot = (slot + 1) & (slots - 1)
        }
        return nil
    }
}
