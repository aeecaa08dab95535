import ModelFormat

/// Finds special tokens in text: at each place the longest, by narrowing a sorted list byte by byte, in one pass.
struct SpecialTokens: Sendable {
    private let vocabulary: Vocabulary
    /// Where in the sorted list the tokens begin that start with each byte, and the list's end.
    private let starts: [Int]

    init(_ vocabulary: Vocabulary) {
        self.vocabulary = vocabulary
        var counts = [Int](repeating: 0, count: 257)
        for at in 0..<vocabulary.special.count {
            if let first = vocabulary.byte(vocabulary.special[at], 0) { counts[Int(first) + 1] += 1 }
        }
        for byte in 0..<256 { counts[byte + 1] += counts[byte] }
        starts = counts
    }

    enum Part: Equatable {
        case text(Range<Int>)
        case token(Int32)
    }

    /// Cuts text into the special tokens that are accepted and what lies between them.
    func cut(_ bytes: [UInt8], accepts: (Int32) -> Bool) -> [Part] {
        var parts: [Part] = []
        var plainStart = 0
        var at = 0
        while at < bytes.count {
            guard let (token, length) = longest(bytes[at...], accepts) else {
                at += 1
                continue
            }
            if plainStart < at { parts.append(.text(plainStart..<at)) }
            parts.append(.token(token))
            at += length
            plainStart = at
        }
        if plainStart < bytes.count { parts.append(.text(plainStart..<bytes.count)) }
        return parts
    }

    private func longest(_ bytes: ArraySlice<UInt8>, _ accepts: (Int32) -> Bool) -> (Int32, Int)? {
        var best: (Int32, Int)?
        var range = 0..<vocabulary.special.count
        for (depth, byte) in bytes.enumerated() {
            range = depth == 0 ? starts[Int(byte)]..<starts[Int(byte) + 1] : narrowed(range, depth, byte)
            guard !range.isEmpty else { break }
            // Those that end here stand first.
            for at in range {
                let id = vocabulary.special[at]
                // A list that is not sorted may lead here with any number.
                guard vocabulary.byte(id, depth) == byte, vocabulary.byte(id, depth + 1) == nil else { break }
                if accepts(id) {
                    best = (id, depth + 1)
                    break
                }
            }
        }
        return best
    }

    /// The tokens of a range with the same `depth` first bytes whose next is `byte`.
    private func narrowed(_ range: Range<Int>, _ depth: Int, _ byte: UInt8) -> Range<Int> {
        func firstIndex(over limit: Int) -> Int {
            var (low, high) = (range.lowerBound, range.upperBound)
            while low < high {
                let middle = (low + high) / 2
                let found = vocabulary.byte(vocabulary.special[middle], depth).map(Int.init) ?? -1
                if found > limit { high = middle } else { low = middle + 1 }
            }
            return low
        }
        let low = firstIndex(over: Int(byte) - 1)
        return low..<max(low, firstIndex(over: Int(byte)))
    }
}
