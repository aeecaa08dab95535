import ModelFormat

/// The tokens of a model as bytes, in flat memory: no string object for each of up to 262,144 tokens.
struct Vocabulary: Sendable {
    /// GGUF's token types (llama.cpp, `llama_token_type`).
    enum Kind: UInt8, Sendable {
        case undefined = 0
        case normal, unknown, control, userDefined, unused, byte
    }

    private let blob: [UInt8]
    private let ends: [UInt32]
    let kinds: [Kind]
    /// Open addressing; -1 is empty. A text that several tokens share leads to the first.
    private let table: [Int32]

    var count: Int { kinds.count }

    /// - Parameter spell: turns a token's text into the bytes it stands for.
    init(_ metadata: Metadata, spell: (UnsafeRawBufferPointer, Kind, inout [UInt8]) throws -> Void) throws {
        if let lines = metadata.string("tokenizer.ebb.vocabulary") {
            self = try Self(lines: lines, metadata, spell)
            return
        }
        guard let tokens = metadata.array("tokenizer.ggml.tokens"), tokens.isStrings, tokens.count > 0 else {
            throw TextError("the model has no vocabulary (tokenizer.ggml.tokens)")
        }
        var kinds = [Kind](repeating: .normal, count: tokens.count)
        if let types = metadata.array("tokenizer.ggml.token_type")?.integers() {
            guard types.count == tokens.count else {
                throw TextError("the vocabulary has \(tokens.count) tokens, but \(types.count) token types")
            }
            kinds = types.map { UInt8(exactly: $0).flatMap(Kind.init) ?? .normal }
        }
        try self.init(kinds) { index, blob in try spell(tokens.string(index), kinds[index], &blob) }
    }

    /// Ebb's own form: a token a line, and a list of the control tokens.
    private init(
        lines: String, _ metadata: Metadata, _ spell: (UnsafeRawBufferPointer, Kind, inout [UInt8]) throws -> Void
    ) throws {
        let tokens = lines.utf8.split(separator: 0x0a, omittingEmptySubsequences: false)
        var kinds = [Kind](repeating: .normal, count: tokens.count)
        for id in metadata.array("tokenizer.ebb.special_tokens")?.integers() ?? [] {
            guard let index = Int(exactly: id), kinds.indices.contains(index) else {
                throw TextError("the special token \(id) is not in the vocabulary")
            }
            kinds[index] = .control
        }
        try self.init(kinds) { index, blob in
            try Array(tokens[index]).withUnsafeBytes { try spell($0, kinds[index], &blob) }
        }
    }

    private init(_ kinds: [Kind], append: (Int, inout [UInt8]) throws -> Void) throws {
        var blob: [UInt8] = []
        var ends: [UInt32] = []
        ends.reserveCapacity(kinds.count)
        for index in kinds.indices {
            try append(index, &blob)
            ends.append(UInt32(blob.count))
        }
        self.kinds = kinds
        self.blob = blob
        self.ends = ends
        table = Self.hashTable(blob, ends, kinds)
    }

    /// The bytes of a token; empty for an id outside the vocabulary.
    func bytes(_ id: Int32) -> ArraySlice<UInt8> {
        guard id >= 0, id < count else { return [] }
        return blob[(id == 0 ? 0 : Int(ends[Int(id) - 1]))..<Int(ends[Int(id)])]
    }

    /// The token of exactly these bytes.
    func id(_ text: some Collection<UInt8>) -> Int32? {
        var slot = Int(truncatingIfNeeded: Self.hash(text)) & (table.count - 1)
        while table[slot] >= 0 {
            if bytes(table[slot]).elementsEqual(text) { return table[slot] }
            slot = (slot + 1) & (table.count - 1)
        }
        return nil
    }

    private static func hash(_ text: some Sequence<UInt8>) -> UInt64 {
        var h: UInt64 = 0xcbf2_9ce4_8422_2325  // FNV-1a
        for byte in text { h = (h ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return h ^ h >> 29
    }

    private static func hashTable(_ blob: [UInt8], _ ends: [UInt32], _ kinds: [Kind]) -> [Int32] {
        var size = 16
        while size < ends.count * 2 { size *= 2 }
        var table = [Int32](repeating: -1, count: size)
        var start = 0
        for index in ends.indices {
            let text = blob[start..<Int(ends[index])]
            var slot = Int(truncatingIfNeeded: hash(text)) & (size - 1)
            // A byte token stands for a byte that is left over, never for the text that is that byte.
            var known = kinds[index] == .byte
            while !known, table[slot] >= 0 {
                let other = Int(table[slot])
                known = blob[(other == 0 ? 0 : Int(ends[other - 1]))..<Int(ends[other])].elementsEqual(text)
                if !known { slot = (slot + 1) & (size - 1) }
            }
            if !known { table[slot] = Int32(index) }
            start = Int(ends[index])
        }
        return table
    }
}
