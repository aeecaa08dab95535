import ModelFormat

/// WordPiece (Wu et al. 2016) as BERT uses it: text is normalized and split at spaces and punctuation (Devlin et al. 2019,
/// `BertPreTokenizer` of Hugging Face tokenizers); each word becomes the longest pieces of the vocabulary, from its front;
/// pieces inside a word begin with a mark (`##`).
struct WordPieceEncoder: Sendable {
    private let vocabulary: Vocabulary
    private let unknown: Int32
    private let normalizer: Normalizer
    /// Characters; longer words are unknown.
    private let longestWord: Int
    /// What pieces inside a word begin with, and what those at its front do: one of the two is a mark, the other empty.
    private let continuation: [UInt8]
    private let front: [UInt8]
    /// A text is cut at the first white space after so many bytes.
    private static let cutBytes = 4096

    init(_ metadata: Metadata, vocabulary: Vocabulary) throws {
        self.vocabulary = vocabulary
        let isGGUF = metadata.string("tokenizer.ggml.model") == "bert"
        // GGUF's usual values are those of BERT's own vocabulary.
        guard let unknown = metadata.integer("tokenizer.ggml.unknown_token_id") ?? (isGGUF ? 100 : nil),
            (0..<vocabulary.count).contains(unknown)
        else { throw TextError("the WordPiece vocabulary has no unknown token (tokenizer.ggml.unknown_token_id)") }
        self.unknown = Int32(unknown)
        // Where the container has steps of its own for text, they are another's.
        normalizer = metadata[SplitBehavior.key] == nil ? try Normalizer(metadata) : Normalizer([])
        longestWord = max(0, metadata.integer("tokenizer.ebb.longest_word") ?? 100)
        // GGUF marks the fronts of words, as SentencePiece does.
        front = isGGUF ? SentencePieceEncoder.space : []
        continuation = isGGUF ? [] : Array((metadata.string("tokenizer.ebb.continuation") ?? "##").utf8)
    }

    /// What a token adds to a text: a space before the front of a word.
    func bytes(ofToken bytes: [UInt8]) -> [UInt8] {
        if !front.isEmpty { return bytes.starts(with: front) ? [0x20] + bytes.dropFirst(front.count) : bytes }
        return bytes.starts(with: continuation) ? Array(bytes.dropFirst(continuation.count)) : [0x20] + bytes
    }

    /// To find it takes a look at each token.
    private let longest = MadeOnce<Int>()

    /// Bytes of the longest token.
    var longestToken: Int { longest.get { vocabulary.longestToken } }

    /// Appends the tokens of a part of a text.
    func encode(
        _ bytes: [UInt8], _ range: Range<Int>, into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        var forms = CanonicalForms()
        let longestToken = self.longestToken
        var scalars: [Unicode.Scalar] = []
        var at = range.lowerBound
        while at < range.upperBound {
            let start = at
            scalars.removeAll(keepingCapacity: true)
            while at < range.upperBound {
                let (scalar, next) = UTF8Text.scalar(bytes, at)
                // ASCII white space stays what it is and ends a word: what follows is a text of its own.
                if at - start >= Self.cutBytes, scalar == " " || scalar == "\n" { break }
                scalars.append(scalar)
                at = next
            }
            try meter.add(at - start)
            let clean = try normalizer.normalize(scalars, &forms, &meter)
            try encodeWords(clean, longestToken, into: &ids, &meter)
        }
    }

    private func encodeWords(
        _ scalars: [Unicode.Scalar], _ longestToken: Int, into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        var word: [UInt8] = []
        var count = 0
        for scalar in scalars {
            let isSpace = Self.isSpace(scalar)
            let isAlone = !isSpace && Self.isPunctuation(scalar)
            if isSpace || isAlone, count > 0 {
                try encodeWord(word, count, longestToken, into: &ids, &meter)
                word.removeAll(keepingCapacity: true)
                count = 0
            }
            if isSpace { continue }
            if count <= longestWord { UTF8Text.append(scalar, to: &word) }
            count += 1
            if isAlone {
                try encodeWord(word, count, longestToken, into: &ids, &meter)
                word.removeAll(keepingCapacity: true)
                count = 0
            }
        }
        if count > 0 { try encodeWord(word, count, longestToken, into: &ids, &meter) }
    }

    /// Appends the tokens of a piece of normalized text.
    func encodePiece(
        _ text: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>, longestToken: Int, into ids: inout [Int32],
        _ meter: inout WorkMeter
    ) throws(CancellationError) {
        let count = text[piece].reduce(0) { $0 + ($1 & 0xc0 == 0x80 ? 0 : 1) }
        try encodeWord(
            count <= longestWord ? Array(text[piece]) : [], count, longestToken, into: &ids, &meter)
    }

    private func encodeWord(
        _ word: [UInt8], _ count: Int, _ longestToken: Int, into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        guard count <= longestWord else { return ids.append(unknown) }
        let first = ids.count
        var start = 0
        while start < word.count {
            try meter.add(min(longestToken, word.count - start, Self.tokenLimit))
            let found = vocabulary.longest(
                word[start...], prefix: start == 0 ? front : continuation, limit: min(longestToken, Self.tokenLimit))
            guard let found else {
                ids.removeSubrange(first...)
                return ids.append(unknown)
            }
            ids.append(found.id)
            start += found.count
        }
    }

    /// Bytes of a token at most, so that a vocabulary cannot make the work for each place long.
    private static let tokenLimit = 256

    private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x20, 0x09...0x0d: true
        case 0..<0x80: false
        default: scalar.properties.isWhitespace
        }
    }

    private static func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 33...47, 58...64, 91...96, 123...126: return true
        case 0..<0x80: return false
        default: break
        }
        switch scalar.properties.generalCategory {
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
            .finalPunctuation, .otherPunctuation:
            return true
        default: return false
        }
    }
}
