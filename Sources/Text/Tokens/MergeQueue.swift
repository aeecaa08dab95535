/// A piece of text on its way to tokens: symbols in a linked list that are merged in pairs, best pair first, the
/// leftmost of equals. Takes O(n log n) for n symbols.
struct MergeQueue {
    struct Symbol {
        var start: Int
        var length: Int
        /// The token, or -1 where the bytes are none.
        var token: Int32
        var previous: Int
        var next: Int
    }

    /// A possible merge; `order` ranks it, smaller first.
    private struct Candidate: Comparable {
        let order: Float
        let left: Int
        let length: Int
        let token: Int32

        static func < (a: Candidate, b: Candidate) -> Bool { (a.order, a.left) < (b.order, b.left) }
    }

    private(set) var symbols: [Symbol] = []
    private var heap: [Candidate] = []

    /// Merges `initial` symbols until `rank` finds no pair. `rank` gets two neighbours and returns the token they make
    /// and the order of that merge, or nil.
    mutating func run(_ initial: [Symbol], rank: (Symbol, Symbol) -> (order: Float, token: Int32)?) -> [Symbol] {
        symbols = initial
        heap.removeAll(keepingCapacity: true)
        for index in symbols.indices.dropLast() { offer(index, rank) }
        while let best = pop() {
            let left = symbols[best.left]
            // Outdated where either side has been merged since.
            guard left.length > 0, left.next >= 0, left.length + symbols[left.next].length == best.length else {
                continue
            }
            let right = left.next
            symbols[best.left].length = best.length
            symbols[best.left].token = best.token
            symbols[best.left].next = symbols[right].next
            if symbols[right].next >= 0 { symbols[symbols[right].next].previous = best.left }
            symbols[right].length = 0
            if symbols[best.left].previous >= 0 { offer(symbols[best.left].previous, rank) }
            offer(best.left, rank)
        }
        return symbols.filter { $0.length > 0 }
    }

    private mutating func offer(_ left: Int, _ rank: (Symbol, Symbol) -> (order: Float, token: Int32)?) {
        let right = symbols[left].next
        guard right >= 0, let merge = rank(symbols[left], symbols[right]) else { return }
        let length = symbols[left].length + symbols[right].length
        push(Candidate(order: merge.order, left: left, length: length, token: merge.token))
    }

    private mutating func push(_ candidate: Candidate) {
        heap.append(candidate)
        var child = heap.count - 1
        while child > 0, heap[child] < heap[(child - 1) / 2] {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func pop() -> Candidate? {
        guard let best = heap.first else { return nil }
        let last = heap.removeLast()
        guard !heap.isEmpty else { return best }
        heap[0] = last
        var parent = 0
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child] < heap[smallest] {
                smallest = child
            }
            if smallest == parent { return best }
            heap.swapAt(parent, smallest)
            parent = smallest
        }
    }
}
