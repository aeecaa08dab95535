import ModelFormat

/// Byte-level BPE: the pieces of a pre-tokenizer, merged by rank (Sennrich et al. 2016; Radford et al. 2019).
struct BytePairEncoder: Sendable {
    private let preTokenizer: PreTokenizer
    /// The token of each single byte; -1 where the vocabulary has none (such a byte is dropped, as llama.cpp does).
    private let byteTokens: [Int32]
    private let merges: MergeTable

    init(_ metadata: Metadata, vocabulary: Vocabulary) throws {
        let name = metadata.string("tokenizer.ggml.pre") ?? "default"
        guard let preTokenizer = PreTokenizer(rawValue: name) else {
            throw TextError("the pre-tokenizer \"\(name)\" is not supported (smollm and qwen2 are)")
        }
        self.preTokenizer = preTokenizer
        byteTokens = (0...255).map { vocabulary.id([UInt8($0)]) ?? -1 }
        merges = try MergeTable(metadata, vocabulary)
    }

    /// Appends the tokens of a part of a text.
    func encode(
        _ bytes: [UInt8], _ range: Range<Int>, into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        if preTokenizer.composes, let composed = try CanonicalForms.composed(bytes, range, &meter) {
            return try encodeComposed(composed, composed.indices, into: &ids, &meter)
        }
        try encodeComposed(bytes, range, into: &ids, &meter)
    }

    private func encodeComposed(
        _ bytes: [UInt8], _ range: Range<Int>, into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        var queue = MergeQueue()
        var start = range.lowerBound
        while start < range.upperBound {
            let end = preTokenizer.pieceEnd(bytes, start, range.upperBound)
            try meter.add(end - start)
            while start < end {
                let stop = min(end, start + MergeQueue.pieceLimit)
                try encodePiece(bytes[start..<stop], &queue, into: &ids, &meter)
                start = stop
            }
        }
    }

    private func encodePiece(
        _ piece: ArraySlice<UInt8>, _ queue: inout MergeQueue, into ids: inout [Int32], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        queue.begin(bytes: piece.count)
        for byte in piece { queue.append(length: 1, token: byteTokens[Int(byte)]) }
        try queue.run(&meter) { _, left, right in
            guard left.token >= 0, right.token >= 0, let merge = merges.merge(left.token, right.token) else {
                return nil
            }
            // Ranks stay below 2^24, where Float counts exactly.
            return (Float(merge.rank), merge.token)
        }
        queue.trimCandidates()
        for symbol in queue.symbols where symbol.length > 0 && symbol.token >= 0 { ids.append(symbol.token) }
        queue.trim()
    }
}
