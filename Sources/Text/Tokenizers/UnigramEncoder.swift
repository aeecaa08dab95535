import ModelFormat

/// SentencePiece's unigram model (Kudo 2018): of all ways to write a text in tokens the one with the best sum of scores,
/// found by dynamic programming (Viterbi).
struct UnigramEncoder: Sendable {
    private let vocabulary: Vocabulary
    /// Each token's score, as the bits of a Float.
    private let scores: Numbers<UInt32>
    private let unknown: Int32
    private let map: CharacterMap?
    let addsSpacePrefix: Bool
    private let mergesSpaces: Bool
    /// Words are written in tokens each for itself, and all white space is between words.
    private let splitsWords: Bool
    private let collapsesSpaces: Bool
    /// User-defined tokens have scores like others; SentencePiece takes them wherever they stand.
    private let keepsScores: Bool
    /// Unknown characters are spelled in bytes.
    private let spellsUnknown: Bool
    private let index = MadeOnce<UnigramIndex>()

    /// A text of so many bytes is cut where no token can reach across; finding out where takes milliseconds.
    private static let cutBytes = 1 << 16
    /// What an unknown character costs, below the worst score (as SentencePiece has it).
    private static let unknownPenalty = 10.0

    init(_ metadata: Metadata, vocabulary: Vocabulary) throws {
        self.vocabulary = vocabulary
        guard let scores = metadata.floatBits("tokenizer.ggml.scores"), scores.count == vocabulary.count else {
            throw TextError("the tokenizer lacks a score for each token (tokenizer.ggml.scores)")
        }
        self.scores = scores
        let unknown = metadata.integer("tokenizer.ggml.unknown_token_id") ?? 2
        guard (0..<vocabulary.count).contains(unknown) else {
            throw TextError("the unigram vocabulary has no unknown token (tokenizer.ggml.unknown_token_id)")
        }
        self.unknown = Int32(unknown)
        addsSpacePrefix = metadata.bool("tokenizer.ggml.add_space_prefix") ?? true
        mergesSpaces = metadata.bool("tokenizer.ggml.remove_extra_whitespaces") ?? false
        collapsesSpaces = metadata.bool("tokenizer.ebb.collapses_spaces") ?? false
        keepsScores = metadata.bool("tokenizer.ebb.keeps_scores") ?? false
        spellsUnknown = metadata.bool("tokenizer.ebb.spells_unknown") ?? false
        splitsWords = metadata.bool("tokenizer.ebb.splits_words") ?? false
        let key = "tokenizer.ggml.precompiled_charsmap"
        if metadata[key] == nil {
            map = nil
        } else if let bytes = metadata.numbers(key, UInt8.self) {
            map = try CharacterMap(bytes)
        } else if let bytes = metadata.array(key)?.integers() {
            map = try CharacterMap(Numbers(bytes.map { UInt8(truncatingIfNeeded: $0) }))
        } else {
            throw TextError("the tokenizer's precompiled_charsmap is no array of bytes")
        }
    }

    /// Appends the tokens of a part of a text. Nothing but special tokens stands right before it.
    func encode(
        _ bytes: [UInt8], _ range: Range<Int>, into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        let text = try normalized(bytes, range, &meter)
        let index = known()
        // SentencePiece makes no token that reaches across words, unless spaces are kept as they are.
        let splits = splitsWords || mergesSpaces
        let joins = !splits && text.count >= Self.cutBytes ? vocabulary.bytesBefore(SentencePieceEncoder.space) : []
        try text.withUnsafeBufferPointer { text throws(CancellationError) in
            var start = 0
            while start < text.count {
                let end = splits ? word(text, start) : joins.isEmpty ? text.count : cut(text, start, joins)
                let stop = UTF8Text.boundary(text, from: min(end, start + MergeQueue.pieceLimit), end: text.count)
                try encodePiece(text, start..<stop, index, into: &ids, &meter)
                start = stop
            }
        }
    }

    /// The first place, some KB behind `start`, where a space follows a byte that no token has before a space; or the end.
    private func cut(_ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ joins: [Bool]) -> Int {
        var at = start + 4096
        while at + 3 <= text.count {
            if Self.isSpace(text, at), !joins[Int(text[at - 1])], !Self.isSpace(text, at - 3) { return at }
            at += 1
        }
        return text.count
    }

    /// Where the next mark of a space stands.
    private func word(_ text: UnsafeBufferPointer<UInt8>, _ start: Int) -> Int {
        var at = start + 1
        while at + 3 <= text.count {
            if Self.isSpace(text, at) { return at }
            at += 1
        }
        return text.count
    }

    /// Whether the three bytes from `at` on, which must be there, are the mark of a space.
    @inline(__always)
    private static func isSpace(_ text: UnsafeBufferPointer<UInt8>, _ at: Int) -> Bool {
        let space = SentencePieceEncoder.space
        return text[at] == space[0] && text[at + 1] == space[1] && text[at + 2] == space[2]
    }

    // MARK: Normalizing

    /// A part of a text with its characters replaced, spaces merged where that is wanted, and written as U+2581.
    private func normalized(
        _ bytes: [UInt8], _ range: Range<Int>, _ meter: inout WorkMeter
    ) throws(CancellationError) -> [UInt8] {
        try meter.add(range.count)
        guard splitsWords else { return spaced(mapped(bytes, range)) }
        let mapped =
            map?.replacingGraphemes(bytes, range, limit: range.count * CharacterMap.growth + 64) ?? Array(bytes[range])
        return mergesSpaces ? spaced(Self.withPlainSpaces(mapped)) : metaspaced(mapped)
    }

    /// At each place the longest prefix that has a replacement is replaced, as SentencePiece does it.
    private func mapped(_ bytes: [UInt8], _ range: Range<Int>) -> [UInt8] {
        guard let map else { return Array(bytes[range]) }
        var out: [UInt8] = []
        out.reserveCapacity(range.count)
        let limit = range.count * CharacterMap.growth + 64
        bytes.withUnsafeBufferPointer { bytes in
            var at = range.lowerBound
            while at < range.upperBound, out.count <= limit {
                if let (length, replacement) = map.prefix(bytes, at, range.upperBound) {
                    map.append(replacement, to: &out)
                    at += length
                } else {
                    let next = min(at + UTF8Text.length(bytes[at]), range.upperBound)
                    out += bytes[at..<next]
                    at = next
                }
            }
        }
        return out
    }

    /// Each space as U+2581, one of a row of them where that is wanted, and one before a text that begins without.
    private func metaspaced(_ mapped: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(mapped.count + mapped.count / 2 + 3)
        var wasSpace = false
        for byte in mapped {
            if byte != 0x20 {
                out.append(byte)
            } else if !wasSpace || !collapsesSpaces {
                out += SentencePieceEncoder.space
            }
            wasSpace = byte == 0x20
        }
        let isPrefixed = out.isEmpty || out.starts(with: SentencePieceEncoder.space) || !addsSpacePrefix
        return isPrefixed ? out : SentencePieceEncoder.space + out
    }

    /// All white space as spaces.
    private static func withPlainSpaces(_ bytes: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count)
        var at = 0
        while at < bytes.count {
            let (scalar, next) = UTF8Text.scalar(bytes, at)
            if scalar.properties.isWhitespace { out.append(0x20) } else { out += bytes[at..<next] }
            at = next
        }
        return out
    }

    private func spaced(_ mapped: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(mapped.count + mapped.count / 2)
        var (isInWord, isFirst) = (false, true)
        for byte in mapped {
            if byte == 0x20 {
                isInWord = false
                if !mergesSpaces { out += SentencePieceEncoder.space }
                continue
            }
            if !isInWord, mergesSpaces ? addsSpacePrefix || !isFirst : addsSpacePrefix && isFirst {
                out += SentencePieceEncoder.space
            }
            (isInWord, isFirst) = (true, false)
            out.append(byte)
        }
        return out
    }

    // MARK: The best path

    /// Appends the tokens of a piece of normalized text.
    func encodePiece(
        _ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        try encodePiece(text, range, known(), into: &ids, &meter)
    }

    private func known() -> UnigramIndex {
        index.get { UnigramIndex(vocabulary, scores, spellsUnknown: spellsUnknown) }
    }

    /// The best way to write what lies before a place.
    private struct Path {
        var score: Double
        var start: Int32
        var token: Int32
    }

    private func encodePiece(
        _ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ index: UnigramIndex, into ids: inout [Int32],
        _ meter: inout WorkMeter
    ) throws(CancellationError) {
        let worst = index.lowestScore - Self.unknownPenalty
        var paths = [Path](repeating: Path(score: -.infinity, start: 0, token: unknown), count: range.count + 1)
        paths[0].score = 0
        var at = range.lowerBound
        while at < range.upperBound {
            let length = min(UTF8Text.length(text[at]), range.upperBound - at)
            let place = at - range.lowerBound
            let score = paths[place].score
            var isKnown = false
            let work = index.forEachToken(text, at, range.upperBound) { token, count in
                let isFree = !keepsScores && vocabulary.kind(token) == .userDefined
                let own = isFree ? 0 : Double(Float(bitPattern: scores[Int(token)]))
                if count == length, own > -.infinity { isKnown = true }
                if score + own > paths[place + count].score {
                    paths[place + count] = Path(score: score + own, start: Int32(place), token: token)
                }
            }
            try meter.add(work)
            if !isKnown, score + worst > paths[place + length].score {
                paths[place + length] = Path(score: score + worst, start: Int32(place), token: unknown)
            }
            at += length
        }
        let first = ids.count
        var place = range.count
        while place > 0 {
            let path = paths[place]
            // Scores that are no numbers may leave a place without a path.
            let start = min(Int(path.start), place - 1)
            if path.token == unknown, !index.byteTokens.isEmpty {
                let bytes = text[range.lowerBound + start..<range.lowerBound + place]
                for byte in bytes.reversed() { ids.append(index.byteTokens[Int(byte)]) }
            } else if path.token != unknown || ids.count == first || ids.last != unknown {
                // Unknown characters in a row are one unknown token.
                ids.append(path.token)
            }
            place = start
        }
        ids[first...].reverse()
    }
}

/// What makes the search for tokens at a place short: how long those are that begin with the same bytes. Made when a text
/// is first encoded.
final class UnigramIndex: Sendable {
    private let vocabulary: Vocabulary
    let lowestScore: Double
    /// The token of each byte, where unknown characters are spelled in bytes and all have one.
    let byteTokens: [Int32]
    /// By a hash of the first four bytes: the longest token that begins so, in bytes, 255 at most.
    private let longest: [UInt8]
    private static let slots = 1 << 16
    /// Bytes of a token at most; a longer one is never found.
    private static let tokenLimit = 255

    init(_ vocabulary: Vocabulary, _ scores: Numbers<UInt32>, spellsUnknown: Bool) {
        self.vocabulary = vocabulary
        let bytes = spellsUnknown ? vocabulary.byteTokens() : []
        byteTokens = bytes.contains { $0 < 0 } ? [] : bytes
        var (lowest, longest) = (Double.infinity, [UInt8](repeating: 0, count: Self.slots))
        for id in 0..<Int32(clamping: vocabulary.count) where Self.isText(vocabulary.kind(id)) {
            if vocabulary.kind(id) == .normal { lowest = min(lowest, Double(Float(bitPattern: scores[Int(id)]))) }
            let count = min(vocabulary.byteCount(id), Self.tokenLimit)
            guard count >= 4 else { continue }
            let head = (0..<4).reduce(UInt32(0)) { $0 | UInt32(vocabulary.byte(id, $1) ?? 0) << UInt32($1 * 8) }
            longest[Self.slot(head)] = max(longest[Self.slot(head)], UInt8(count))
        }
        lowestScore = lowest.isFinite ? lowest : 0
        self.longest = longest
    }

    private static func isText(_ kind: Vocabulary.Kind) -> Bool {
        kind == .normal || kind == .userDefined || kind == .unused
    }

    private static func slot(_ head: UInt32) -> Int { Int((head &* 0x9E37_79B1) >> 16) }

    /// Calls `body` with the tokens that the text from `at` on begins with, shortest first.
    /// - Returns: how many bytes have been looked at.
    func forEachToken(
        _ text: UnsafeBufferPointer<UInt8>, _ at: Int, _ end: Int, _ body: (Int32, Int) -> Void
    ) -> Int {
        var limit = min(3, end - at)
        if end - at >= 4 {
            let head = UnsafeRawBufferPointer(text).loadUnaligned(fromByteOffset: at, as: UInt32.self).littleEndian
            limit = max(limit, min(Int(longest[Self.slot(head)]), end - at))
        }
        vocabulary.forEachPrefix(text, at, limit) { id, count in
            if Self.isText(vocabulary.kind(id)) { body(id, count) }
        }
        return limit
    }
}
