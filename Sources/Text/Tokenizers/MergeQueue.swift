/// A piece of text on its way to tokens: symbols that are merged in pairs, best pair first, the leftmost of equals.
/// Takes O(n log n) for n bytes, and at most ``bytesPerByte`` bytes of memory for each.
struct MergeQueue {
    /// A symbol lies at the place of its first byte; the next one follows at `place + length`.
    struct Symbol {
        /// 0 where no symbol begins.
        var length: Int32
        /// The token, or -1 where the bytes are none.
        var token: Int32
        /// The place of the symbol before, or -1.
        var previous: Int32
    }

    /// A possible merge; `order` ranks it, smaller first.
    private struct Candidate: Comparable {
        let order: Float
        let left: Int32
        let length: Int32
        let token: Int32

        static func < (a: Candidate, b: Candidate) -> Bool { (a.order, a.left) < (b.order, b.left) }
    }

    /// Bytes of a piece at most, so that memory is bounded: a longer one, which no model's context holds, is cut.
    static let pieceLimit = 1 << 20
    /// 12 for a symbol, 16 for each of 5/4 candidates.
    static let bytesPerByte = 32

    private(set) var symbols: [Symbol] = []
    private var last: Int32 = -1
    private var heap: [Candidate] = []
    private var heapLimit = 0

    /// Begins a piece of so many bytes.
    mutating func begin(bytes: Int) {
        symbols.removeAll(keepingCapacity: true)
        heap.removeAll(keepingCapacity: true)
        last = -1
        symbols.reserveCapacity(bytes)
        // Of candidates at most one for each symbol is in force; outdated ones are thrown away when they are many.
        heapLimit = max(64, bytes + bytes / 4)
        heap.reserveCapacity(heapLimit)
    }

    /// Adds a symbol of 1 to 4 bytes at the end.
    mutating func append(length: Int, token: Int32) {
        let place = Int32(symbols.count)
        symbols.append(Symbol(length: Int32(max(length, 1)), token: token, previous: last))
        for _ in 1..<max(length, 1) { symbols.append(Symbol(length: 0, token: -1, previous: -1)) }
        last = place
    }

    /// Merges the symbols until `rank` finds no pair. `rank` gets the place of the left one and both, and returns the
    /// token that they make and the order of that merge, or nil.
    mutating func run(
        _ meter: inout WorkMeter, rank: (Int, Symbol, Symbol) -> (order: Float, token: Int32)?
    ) throws(CancellationError) {
        var at = 0
        while at < symbols.count {
            offer(at, rank)
            at += Int(symbols[at].length)
        }
        try meter.add(symbols.count)
        while let best = pop() {
            try meter.add(1)
            let left = Int(best.left)
            guard isInForce(best) else { continue }
            let right = left + Int(symbols[left].length)
            let next = left + Int(best.length)
            symbols[left].length = best.length
            symbols[left].token = best.token
            symbols[right].length = 0
            if next < symbols.count { symbols[next].previous = best.left }
            if symbols[left].previous >= 0 { offer(Int(symbols[left].previous), rank) }
            offer(left, rank)
        }
    }

    /// Gives up the memory of a long piece.
    mutating func trim() {
        if heap.capacity > 1 << 12 { heap = [] }
        if symbols.capacity > 1 << 12 { symbols = [] }
    }

    /// Gives up what only merging needs.
    mutating func trimCandidates() {
        if heap.capacity > 1 << 12 { heap = [] }
    }

    /// Whether neither side has been merged since.
    private func isInForce(_ candidate: Candidate) -> Bool {
        let left = Int(candidate.left)
        let length = symbols[left].length
        guard length > 0, left + Int(length) < symbols.count else { return false }
        return length + symbols[left + Int(length)].length == candidate.length
    }

    private mutating func offer(_ left: Int, _ rank: (Int, Symbol, Symbol) -> (order: Float, token: Int32)?) {
        let symbol = symbols[left]
        let right = left + Int(symbol.length)
        guard right < symbols.count, let merge = rank(left, symbol, symbols[right]) else { return }
        let length = symbol.length + symbols[right].length
        push(Candidate(order: merge.order, left: Int32(left), length: length, token: merge.token))
    }

    private mutating func push(_ candidate: Candidate) {
        if heap.count >= heapLimit { dropOutdated() }
        heap.append(candidate)
        var child = heap.count - 1
        while child > 0, heap[child] < heap[(child - 1) / 2] {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func dropOutdated() {
        var kept = 0
        for candidate in heap where isInForce(candidate) {
            heap[kept] = candidate
            kept += 1
        }
        heap.removeSubrange(kept...)
        for parent in (0..<heap.count / 2).reversed() { sink(parent) }
    }

    private mutating func pop() -> Candidate? {
        guard let best = heap.first else { return nil }
        let last = heap.removeLast()
        guard !heap.isEmpty else { return best }
        heap[0] = last
        sink(0)
        return best
    }

    private mutating func sink(_ start: Int) {
        var parent = start
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child] < heap[smallest] {
                smallest = child
            }
            if smallest == parent { return }
            heap.swapAt(parent, smallest)
            parent = smallest
        }
    }
}
