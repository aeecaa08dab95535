import ModelFormat

/// Steps that split the text of a tokenizer.json into pieces, in order; some change the text itself.
struct TextSplitter: Sendable {
    private enum Place: String, Sendable { case always, first, never }

    private enum Step: Sendable {
        case split(PatternMatcher, SplitBehavior, isInverted: Bool)
        /// A mark stands for each space, and one is put before a piece.
        case metaspace(mark: [UInt8], Place)
        /// A space before a piece that begins without.
        case space
    }

    /// A text and its pieces, which are not empty.
    struct Pieces {
        var text: [UInt8]
        var ranges: [Range<Int>]
    }

    private let steps: [Step]
    /// How many times longer a text may become.
    let growth: Double
    private static let growthLimit = 16.0

    /// - Parameter texts: names of steps, each followed by what it works with.
    init(_ texts: [String]) throws(TextError) {
        var (steps, growth): ([Step], Double) = ([], 1)
        var rest = texts[...]
        while let name = rest.popFirst() {
            switch name {
            case SplitBehavior.splitKey:
                guard let pattern = rest.popFirst(), let behavior = rest.popFirst().flatMap(SplitBehavior.init),
                    let inverted = rest.popFirst()
                else { throw Self.damaged }
                let matcher = try TextSteps.matcher(pattern)
                steps.append(.split(matcher, behavior, isInverted: inverted == "1"))
            case SplitBehavior.metaspaceKey:
                guard let mark = rest.popFirst(), let place = rest.popFirst().flatMap(Place.init),
                    mark.unicodeScalars.count == 1
                else { throw Self.damaged }
                steps.append(.metaspace(mark: Array(mark.utf8), place))
                // Pieces may be as short as a byte, and each gets a mark.
                growth *= Double(1 + mark.utf8.count)
            case SplitBehavior.spaceKey:
                steps.append(.space)
                growth *= 2
            default: throw TextError("the tokenizer splits text by \"\(name)\", which is not supported")
            }
        }
        guard steps.count <= TextSteps.stepLimit else {
            throw TextError("the tokenizer splits text in over \(TextSteps.stepLimit) steps")
        }
        guard growth <= Self.growthLimit else {
            throw TextError("the tokenizer's pre-tokenizer makes texts over \(Int(Self.growthLimit)) times longer")
        }
        (self.steps, self.growth) = (steps, growth)
    }

    private static let damaged = TextError("the tokenizer's way to split text is damaged; import the model again")

    /// - Parameter isFirst: the text stands at the beginning of all text.
    func pieces(_ text: [UInt8], isFirst: Bool, _ meter: inout WorkMeter) throws(CancellationError) -> Pieces {
        var pieces = Pieces(text: text, ranges: text.isEmpty ? [] : [text.indices])
        for step in steps {
            try meter.add(pieces.text.count)
            switch step {
            case .split(let matcher, let behavior, let isInverted):
                pieces.ranges = Self.split(pieces, matcher, behavior, isInverted)
            case .metaspace(let mark, let place):
                pieces = Self.marked(pieces, mark, place) { isFirst && $0.lowerBound == 0 }
            case .space: pieces = Self.spaced(pieces)
            }
        }
        return pieces
    }

    // MARK: Patterns

    private static func split(
        _ pieces: Pieces, _ matcher: PatternMatcher, _ behavior: SplitBehavior, _ isInverted: Bool
    ) -> [Range<Int>] {
        var out: [Range<Int>] = []
        out.reserveCapacity(pieces.ranges.count)
        pieces.text.withUnsafeBufferPointer { text in
            var joiner = Joiner(behavior: behavior)
            for piece in pieces.ranges {
                var failures = PatternMatcher.Failures()
                var at = piece.lowerBound
                while at < piece.upperBound {
                    let match =
                        matcher.next(text, at, piece.upperBound, &failures) ?? piece.upperBound..<piece.upperBound
                    joiner.add(at..<match.lowerBound, isMatch: isInverted, to: &out)
                    joiner.add(match, isMatch: !isInverted, to: &out)
                    at = match.upperBound
                }
                joiner.end(&out)
            }
        }
        return out
    }

    /// Puts matches and what lies between them together as a behavior wants it.
    private struct Joiner {
        let behavior: SplitBehavior
        private var last: Range<Int>?
        private var wasMatch = false

        init(behavior: SplitBehavior) { self.behavior = behavior }

        mutating func add(_ range: Range<Int>, isMatch: Bool, to out: inout [Range<Int>]) {
            guard !range.isEmpty else { return }
            defer { wasMatch = isMatch }
            if let last, joins(isMatch) {
                self.last = last.lowerBound..<range.upperBound
                return
            }
            if let last { out.append(last) }
            last = isMatch && behavior == .removed ? nil : range
        }

        /// Whether a part belongs to the one before it.
        private func joins(_ isMatch: Bool) -> Bool {
            switch behavior {
            case .isolated, .removed: false
            case .contiguous: isMatch == wasMatch
            case .mergedWithPrevious: isMatch && !wasMatch
            case .mergedWithNext: !isMatch && wasMatch
            }
        }

        mutating func end(_ out: inout [Range<Int>]) {
            if let last { out.append(last) }
            (last, wasMatch) = (nil, false)
        }
    }

    // MARK: Steps that change text

    private static func marked(
        _ pieces: Pieces, _ mark: [UInt8], _ place: Place, isFirst: (Range<Int>) -> Bool
    ) -> Pieces {
        rewritten(pieces) { bytes, piece, out in
            let isWanted = place == .always || (place == .first && isFirst(piece))
            if isWanted, bytes.first != 0x20, !bytes.starts(with: mark) { out += mark }
            for byte in bytes {
                if byte == 0x20 { out += mark } else { out.append(byte) }
            }
        }
    }

    private static func spaced(_ pieces: Pieces) -> Pieces {
        rewritten(pieces) { bytes, _, out in
            if bytes.first != 0x20 { out.append(0x20) }
            out += bytes
        }
    }

    private static func rewritten(
        _ pieces: Pieces, _ write: (ArraySlice<UInt8>, Range<Int>, inout [UInt8]) -> Void
    ) -> Pieces {
        var out = Pieces(text: [], ranges: [])
        out.text.reserveCapacity(pieces.text.count)
        out.ranges.reserveCapacity(pieces.ranges.count)
        for piece in pieces.ranges {
            let start = out.text.count
            write(pieces.text[piece], piece, &out.text)
            out.ranges.append(start..<out.text.count)
        }
        return out
    }
}
