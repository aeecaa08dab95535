/// How much may be promised: what is measured of the process is told apart from what the ledger has promised, so that
/// nothing counts twice. Pure: figures come in as values, bytes throughout.
package struct MemoryBooks: Equatable {
    package init() {}

    /// What the process takes at one moment.
    package struct Measured: Equatable {
        /// Anonymous memory, by the kernel's word.
        package var anonymous = 0
        /// Of it: expansions in place.
        package var expanded = 0
        /// Of it: blocks of KV caches in use.
        package var kv = 0
        /// Buffers of steps: what is in use of them, and what the largest step would use.
        package var scratch = 0
        package var scratchLimit = 0
        /// What is promised at this moment of the heap, and of expansions in the making: how much of it is in use, nobody
        /// can say.
        package var promised = 0

        package init() {}
    }

    /// Anonymous bytes that are no expansion, no KV cache, and nothing that was promised; buffers count in full.
    package private(set) var other = 0
    /// Bytes of promises, other than of KV caches, that are in use.
    package private(set) var kept = 0

    /// What lies between `all less the promises` and `all` may be either: it is what it was before.
    package mutating func measure(_ now: Measured) {
        let idle = max(0, now.scratchLimit - now.scratch)
        let all = max(0, now.anonymous - now.expanded - now.kv) + idle
        other = max(all - now.promised, min(all, other))
        kept = all - other
    }

    /// What stands beside the promises at one moment.
    package struct Standing: Equatable {
        package var budget = 0
        /// Bytes of available memory that promises leave alone.
        package var reserve = 0
        /// What the smallest limit still gives.
        package var available = 0
        /// Expansions that hold whatever happens, and those that give way.
        package var pinned = 0
        package var yielding = 0
        /// Blocks of KV caches in use, and what is promised of them.
        package var kv = 0
        package var kvPromised = 0
        /// Pages of model files: they count as available, and must stay in RAM all the same.
        package var mapped = 0

        package init() {}

        /// Blocks in use that nobody promised.
        package var kvBeyond: Int { max(0, kv - kvPromised) }
    }

    /// Bytes that may be promised in all, by the budget and by the smallest limit.
    package func room(_ now: Standing) -> Int {
        let byBudget = now.budget - other - now.pinned - now.kvBeyond
        let used = kept + now.kv - now.kvBeyond
        let byLimit = used + now.available + now.yielding - now.mapped - now.reserve
        return max(0, min(byBudget, byLimit))
    }

    /// Bytes that are promised and not in use yet: available memory that is spoken for.
    package func outstanding(promised: Int, _ now: Standing) -> Int {
        max(0, promised - kept - (now.kv - now.kvBeyond))
    }
}
