import ModelFormat

/// Finds special tokens in text: at each place the longest, by narrowing a sorted list byte by byte, in one pass.
struct SpecialTokens: Sendable {
    /// Bytes of a special token at most; a longer one is never found. Those of real models are below 64.
    private static let lengthLimit = 256
    /// Tokens with the same text that are looked at.
    private static let twinLimit = 16

    /// Whether a token is wanted at a place; what it takes to know is work, too.
    typealias Acceptance = (Int32, Range<Int>, inout WorkMeter) throws(CancellationError) -> Bool

    private let vocabulary: Vocabulary
    /// Where in the sorted list the tokens begin that start with each byte, and the list's end.
    private let starts: [Int]
    /// The bytes that some token starts with.
    private let isStart: [Bool]

    init(_ vocabulary: Vocabulary) {
        self.vocabulary = vocabulary
        var counts = [Int](repeating: 0, count: 257)
        for at in 0..<vocabulary.special.count {
            if let first = vocabulary.byte(vocabulary.special[at], 0) { counts[Int(first) + 1] += 1 }
        }
        for byte in 0..<256 { counts[byte + 1] += counts[byte] }
        starts = counts
        isStart = (0..<256).map { $0 & 0xc0 != 0x80 && counts[$0] < counts[$0 + 1] }
    }

    /// The first special token from `start` on that is accepted, and where it stands. It begins and ends where characters
    /// do, so that what lies between special tokens is text.
    func next(
        in bytes: [UInt8], from start: Int, _ meter: inout WorkMeter, accepts: Acceptance
    ) throws(CancellationError) -> (token: Int32, range: Range<Int>)? {
        var at = start
        while at < bytes.count {
            let next = nextCandidate(bytes, at)
            try meter.add(next - at + 1)
            at = next
            guard at < bytes.count, isStart[Int(bytes[at])] else { continue }
            let (depth, found) = try longest(bytes[at...], &meter, accepts)
            try meter.add(depth)
            if let found { return (found.token, at..<at + found.length) }
            at += 1
        }
        return nil
    }

    /// All special tokens that stand somewhere in a text, also within or across each other; found in one pass.
    func all(in bytes: [UInt8], _ meter: inout WorkMeter) throws(CancellationError) -> Set<Int32> {
        var found: Set<Int32> = []
        var at = 0
        while at < bytes.count {
            let next = nextCandidate(bytes, at)
            try meter.add(next - at + 1)
            at = next
            guard at < bytes.count, isStart[Int(bytes[at])] else { continue }
            let (depth, _) = try longest(bytes[at...], &meter) { id, _, _ in
                found.insert(id)
                // Of others with the same text each is wanted.
                return false
            }
            try meter.add(depth)
            at += 1
        }
        return found
    }

    /// The first place from `at` on where a token may begin; a few KB farther at most, so that the work is counted on the way.
    private func nextCandidate(_ bytes: [UInt8], _ at: Int) -> Int {
        bytes.withUnsafeBufferPointer { bytes in
            isStart.withUnsafeBufferPointer { isStart in
                var at = at
                let stop = min(bytes.count, at + WorkMeter.interval)
                while at < stop, !isStart[Int(bytes[at])] { at += 1 }
                return at
            }
        }
    }

    /// - Returns: also how many bytes have been looked at.
    private func longest(
        _ bytes: ArraySlice<UInt8>, _ meter: inout WorkMeter, _ accepts: Acceptance
    ) throws(CancellationError) -> (depth: Int, found: (token: Int32, length: Int)?) {
        var best: (Int32, Int)?
        var range = 0..<vocabulary.special.count
        var depth = 0
        for byte in bytes.prefix(Self.lengthLimit) {
            range = depth == 0 ? starts[Int(byte)]..<starts[Int(byte) + 1] : narrowed(range, depth, byte)
            guard !range.isEmpty else { break }
            let end = bytes.startIndex + depth + 1
            // Those that end here stand first.
            for at in range.prefix(Self.twinLimit) where end == bytes.endIndex || bytes[end] & 0xc0 != 0x80 {
                let id = vocabulary.special[at]
                // A list that is not sorted may lead here with any number.
                guard vocabulary.byte(id, depth) == byte, vocabulary.byte(id, depth + 1) == nil else { break }
                if try accepts(id, bytes.startIndex..<end, &meter) {
                    best = (id, depth + 1)
                    break
                }
            }
            depth += 1
        }
        return (depth, best)
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
