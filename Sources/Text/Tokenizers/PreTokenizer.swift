/// Splits text into the pieces that a tokenizer's model works on: in steps, each of which splits the pieces of the one before.
struct PreTokenizer: Sendable {
    /// What becomes of a pattern's matches and of what lies between them.
    enum Action: UInt8, Sendable {
        /// Matches are pieces, and so is what lies between two.
        case isolate
        /// Matches are pieces cut in threes, from their end (`1234567` is 1, 234, 567).
        case groupByThree
    }

    struct Step: Sendable {
        let pattern: String
        var action = Action.isolate
    }

    let steps: [Step]

    /// Patterns are compiled when a text is split for the first time.
    init(_ steps: [Step]) { self.steps = steps }

    /// - Throws: ``TextError`` for a pattern that is not supported.
    func check() throws(TextError) {
        for step in steps { _ = try PatternMatcher.shared(step.pattern) }
    }

    /// Work on one text: the patterns, and what each step remembers of the piece that it is at.
    struct Memory {
        fileprivate let matchers: [PatternMatcher?]
        fileprivate var failures: [PatternMatcher.Failures]
    }

    func memory() -> Memory {
        // Those that cannot be compiled have been refused when the model was opened.
        Memory(
            matchers: steps.map { try? PatternMatcher.shared($0.pattern) },
            failures: Array(repeating: .init(), count: steps.count))
    }

    /// Gives out the pieces of a part of a text in order.
    @inline(__always)
    func split(
        _ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ memory: inout Memory,
        _ piece: (Range<Int>) throws(CancellationError) -> Void
    ) throws(CancellationError) {
        guard steps.count > 1 || steps.first?.action != .isolate else {
            return try splitOnce(bytes, range, &memory, piece)
        }
        try split(bytes, range, step: 0, &memory, piece)
    }

    /// The usual case, without a call for each piece.
    @inline(__always)
    private func splitOnce(
        _ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ memory: inout Memory,
        _ piece: (Range<Int>) throws(CancellationError) -> Void
    ) throws(CancellationError) {
        guard let matcher = memory.matchers.first ?? nil else { return try piece(range) }
        var failures = PatternMatcher.Failures()
        var at = range.lowerBound
        while at < range.upperBound {
            let end = matcher.matchEnd(bytes, at, range.upperBound, &failures)
            if end > at {
                try piece(at..<end)
                at = end
                continue
            }
            let found = matcher.next(bytes, at, range.upperBound, &failures)
            let stop = found?.lowerBound ?? range.upperBound
            try piece(at..<stop)
            at = stop
        }
    }

    private func split(
        _ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, step: Int, _ memory: inout Memory,
        _ piece: (Range<Int>) throws(CancellationError) -> Void
    ) throws(CancellationError) {
        guard step < steps.count, let matcher = memory.matchers[step] else { return try piece(range) }
        memory.failures[step] = .init()
        var at = range.lowerBound
        while at < range.upperBound {
            let found = matcher.next(bytes, at, range.upperBound, &memory.failures[step])
            let stop = found?.lowerBound ?? range.upperBound
            if stop > at { try split(bytes, at..<stop, step: step + 1, &memory, piece) }
            guard let found else { return }
            switch steps[step].action {
            case .isolate: try split(bytes, found, step: step + 1, &memory, piece)
            case .groupByThree:
                for part in Self.threes(bytes, found) { try split(bytes, part, step: step + 1, &memory, piece) }
            }
            at = found.upperBound
        }
    }

    private static func threes(_ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> [Range<Int>] {
        let starts = range.filter { bytes[$0] & 0xc0 != 0x80 }
        let first = starts.count % 3
        let cuts =
            (first == 0 ? [] : [range.lowerBound]) + stride(from: first, to: starts.count, by: 3).map { starts[$0] }
        return cuts.indices.map { cuts[$0]..<($0 + 1 < cuts.count ? cuts[$0 + 1] : range.upperBound) }
    }
}
