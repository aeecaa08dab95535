import ModelFormat

/// SentencePiece BPE: characters merged by the score of the token they make, bytes for what is left
/// (Kudo & Richardson 2018). Spaces are written as U+2581.
struct SentencePieceEncoder: Sendable {
    static let space: [UInt8] = [0xe2, 0x96, 0x81]
    /// Bytes of a merged token at most; those of real vocabularies are below 100.
    private static let tokenLimit = 1024
    /// A text of so many bytes is cut where no token can reach across; finding out where takes milliseconds.
    private static let cutBytes = 1 << 16

    private let vocabulary: Vocabulary
    /// Each token's score, as the bits of a Float.
    private let scores: Numbers<UInt32>
    /// Whether a space is put before a text, and before what follows a special token.
    let addsSpacePrefix: Bool
    private let byteTokens: [Int32]
    private let unknown: Int32?

    init(_ metadata: Metadata, vocabulary: Vocabulary) throws {
        self.vocabulary = vocabulary
        guard let scores = metadata.floatBits("tokenizer.ggml.scores"), scores.count == vocabulary.count else {
            throw TextError("the tokenizer lacks a score for each token (tokenizer.ggml.scores)")
        }
        guard metadata.bool("tokenizer.ggml.remove_extra_whitespaces") != true else {
            throw TextError("the tokenizer removes spaces (tokenizer.ggml.remove_extra_whitespaces): not supported")
        }
        self.scores = scores
        addsSpacePrefix = metadata.bool("tokenizer.ggml.add_space_prefix") ?? true
        byteTokens = vocabulary.byteTokens()
        unknown = metadata.integer("tokenizer.ggml.unknown_token_id").flatMap(Int32.init(exactly:))
    }

    /// Text as vocabularies spell it: each space as U+2581.
    static func escaped(_ text: ArraySlice<UInt8>) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(text.count + text.count / 2)
        for byte in text {
            if byte == 0x20 { out += space } else { out.append(byte) }
        }
        return out
    }

    /// Appends the tokens of a part of a text. Nothing but special tokens stands right before it.
    func encode(
        _ bytes: [UInt8], _ range: Range<Int>, into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        var (bytes, range) = (bytes, range)
        if addsSpacePrefix, !range.isEmpty {
            bytes = [0x20] + bytes[range]
            range = bytes.indices
        }
        var queue = MergeQueue()
        let joins = range.count >= Self.cutBytes ? vocabulary.bytesBefore(Self.space) : []
        var start = range.lowerBound
        while start < range.upperBound {
            let end = joins.isEmpty ? nil : cut(bytes, start, range.upperBound, joins)
            let stop = UTF8Text.boundary(
                bytes, from: min(end ?? range.upperBound, start + MergeQueue.pieceLimit), end: range.upperBound)
            try encodePiece(bytes, start..<stop, &queue, into: &ids, &meter)
            start = stop
        }
    }

    /// The first place, some KB behind `start`, where a space follows a byte that no token has before a space.
    private func cut(_ bytes: [UInt8], _ start: Int, _ end: Int, _ joins: [Bool]) -> Int? {
        var at = start + 4096
        while at < end {
            if bytes[at] == 0x20, bytes[at - 1] != 0x20, !bytes[..<at].hasSuffix(Self.space),
                !joins[Int(bytes[at - 1])]
            {
                return at
            }
            at += 1
        }
        return nil
    }

    private func encodePiece(
        _ bytes: [UInt8], _ range: Range<Int>, _ queue: inout MergeQueue, into ids: inout [Int32],
        _ meter: inout WorkMeter
    ) throws(CancellationError) {
        queue.begin(bytes: range.count)
        var at = range.lowerBound
        while at < range.upperBound {
            let length = min(UTF8Text.length(bytes[at]), range.upperBound - at)
            queue.append(length: length, token: vocabulary.id(bytes[at..<at + length], space: Self.space) ?? -1)
            at += length
        }
        try meter.add(range.count)
        let start = range.lowerBound
        try queue.run(&meter) { place, left, right in
            let length = Int(left.length + right.length)
            guard length <= Self.tokenLimit,
                let token = vocabulary.id(bytes[start + place..<start + place + length], space: Self.space)
            else { return nil }
            return (-Float(bitPattern: scores[Int(token)]), token)
        }
        queue.trimCandidates()
        for (place, symbol) in queue.symbols.enumerated() where symbol.length > 0 {
            if symbol.token >= 0 {
                ids.append(symbol.token)
            } else {
                for byte in bytes[start + place..<start + place + Int(symbol.length)] { spell(byte, into: &ids) }
            }
        }
        queue.trim()
    }

    /// A byte that is in no token.
    private func spell(_ byte: UInt8, into ids: inout [Int32]) {
        if byte == 0x20 { return Self.space.forEach { spell($0, into: &ids) } }
        if byteTokens[Int(byte)] >= 0 {
            ids.append(byteTokens[Int(byte)])
        } else if let unknown {
            ids.append(unknown)
        }
    }
}

extension ArraySlice<UInt8> {
    fileprivate func hasSuffix(_ bytes: [UInt8]) -> Bool { suffix(bytes.count).elementsEqual(bytes) }
}
