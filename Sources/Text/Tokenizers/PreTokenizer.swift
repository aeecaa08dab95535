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

    private let steps: [Step]
    /// The steps' patterns, compiled when a text is split for the first time.
    private let compiled = MadeOnce<[(matcher: PatternMatcher, action: Action)]>()

    init(_ steps: [Step]) { self.steps = steps }

    /// - Throws: ``TextError`` for a pattern that is not supported.
    func check() throws(TextError) {
        for step in steps { _ = try PatternMatcher.shared(step.pattern) }
    }

    /// The pieces of a part of a text, in order.
    struct Pieces {
        /// A step on its way through the piece of the step before.
        private struct Level {
            let matcher: PatternMatcher
            let action: Action
            var at = 0
            var end = 0
            /// A match behind what lies before it, which has been given out.
            var found = 0..<0
            /// The end of a match that is given out in groups of three.
            var groupEnd = 0
            var failures = PatternMatcher.Failures()

            mutating func begin(_ range: Range<Int>) {
                (at, end) = (range.lowerBound, range.upperBound)
                failures.forget()
            }

            mutating func next(_ bytes: UnsafeBufferPointer<UInt8>) -> Range<Int>? {
                if at < groupEnd { return group(bytes) }
                if at == found.lowerBound, !found.isEmpty { return take(bytes) }
                guard at < end else { return nil }
                let stop = matcher.matchEnd(bytes, at, end, &failures)
                if stop > at {
                    found = at..<stop
                    return take(bytes)
                }
                let start = at
                found = matcher.next(bytes, at, end, &failures) ?? end..<end
                at = found.lowerBound
                return start..<at
            }

            private mutating func take(_ bytes: UnsafeBufferPointer<UInt8>) -> Range<Int> {
                let match = found
                found = end..<end
                if action == .groupByThree {
                    groupEnd = match.upperBound
                    return group(bytes)
                }
                at = match.upperBound
                return match
            }

            /// The first group has what is left of the others.
            private mutating func group(_ bytes: UnsafeBufferPointer<UInt8>) -> Range<Int> {
                let starts = (at..<groupEnd).lazy.filter { bytes[$0] & 0xc0 != 0x80 }
                let count = starts.count
                let start = at
                at = starts.dropFirst(count % 3 == 0 ? 3 : count % 3).first ?? groupEnd
                return start..<at
            }
        }

        private var levels: [Level]
        private var level = 0
        private var whole: Range<Int>

        fileprivate init(_ steps: [(matcher: PatternMatcher, action: Action)], _ range: Range<Int>) {
            whole = range
            levels = steps.map { Level(matcher: $0.matcher, action: $0.action) }
            if !levels.isEmpty { levels[0].begin(range) }
        }

        /// The next piece; nil at the end.
        mutating func next(_ bytes: UnsafeBufferPointer<UInt8>) -> Range<Int>? {
            guard !levels.isEmpty else {
                defer { whole = whole.upperBound..<whole.upperBound }
                return whole.isEmpty ? nil : whole
            }
            while level >= 0 {
                guard let piece = levels[level].next(bytes) else {
                    level -= 1
                    continue
                }
                if level == levels.count - 1 { return piece }
                level += 1
                levels[level].begin(piece)
            }
            return nil
        }
    }

    func pieces(_ range: Range<Int>) -> Pieces {
        let compiled = compiled.get {
            // Those that cannot be compiled have been refused when the model was opened.
            steps.compactMap { step in (try? PatternMatcher.shared(step.pattern)).map { ($0, step.action) } }
        }
        return Pieces(compiled, range)
    }
}
