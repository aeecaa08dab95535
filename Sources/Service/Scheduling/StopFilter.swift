import Text

/// Watches what a model writes for stop texts, and holds back what may be the beginning of one. Special tokens count
/// with their names, which are never given out. What a byte costs does not depend on what came before it: each stop text
/// remembers how much of it has been seen.
struct StopFilter {
    private struct Stop {
        let search: TextSearch
        /// Bytes of it that have been seen last.
        var seen = 0

        var count: Int { search.needle.count }

        /// Whether it is complete with this byte; then nothing follows.
        mutating func isComplete(with byte: UInt8) -> Bool {
            seen = search.matched(seen, then: byte)
            return seen == count
        }
    }

    private struct Held {
        let byte: UInt8
        let isPrinted: Bool
    }

    /// Text that can be given out: printed, or the names of special tokens.
    struct Run: Equatable {
        let text: String
        let isPrinted: Bool
    }

    private var stops: [Stop]
    private var held: [Held] = []
    private(set) var hasStopped = false

    init(_ stops: [String]) { self.stops = stops.filter { !$0.isEmpty }.map { Stop(search: TextSearch($0)) } }

    /// What can be given out after some text. Of two stop texts the one that is complete first counts, of those that are
    /// complete together the longest; nothing from its beginning on is given out.
    /// - Parameter isPrinted: false for the name of a special token.
    mutating func append(_ text: String, isPrinted: Bool = true) -> [Run] {
        if hasStopped || text.isEmpty { return [] }
        if stops.isEmpty { return [Run(text: text, isPrinted: isPrinted)] }
        for byte in text.utf8 {
            held.append(Held(byte: byte, isPrinted: isPrinted))
            var longest = 0
            for index in stops.indices where stops[index].isComplete(with: byte) {
                longest = max(longest, stops[index].count)
            }
            guard longest == 0 else {
                hasStopped = true
                held.removeLast(longest)
                return release(held.count)
            }
        }
        return release(held.count - stops.reduce(0) { max($0, $1.seen) })
    }

    /// What was held back, when the text ends.
    mutating func finish() -> [Run] { release(held.count) }

    private mutating func release(_ count: Int) -> [Run] {
        var runs: [Run] = []
        var rest = held.prefix(count)
        while let first = rest.first {
            let run = rest.prefix { $0.isPrinted == first.isPrinted }
            runs.append(
                Run(text: String(decoding: run.lazy.map(\.byte), as: UTF8.self), isPrinted: first.isPrinted))
            rest = rest.dropFirst(run.count)
        }
        held.removeFirst(count)
        return runs
    }
}

extension [StopFilter.Run] {
    /// What is part of the text.
    var printed: String { lazy.filter(\.isPrinted).map(\.text).joined() }
}
