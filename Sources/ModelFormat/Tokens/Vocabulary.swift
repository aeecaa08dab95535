/// The tokens of a model as bytes: flat tables that are used where they are mapped, so that opening a model makes nothing
/// of its up to 262,144 tokens. A container may hold anything, so every look-up checks what it finds.
public struct Vocabulary: Sendable {
    /// GGUF's token types (llama.cpp, `llama_token_type`).
    public enum Kind: UInt8, Sendable {
        case undefined = 0
        case normal, unknown, control, userDefined, unused, byte
    }

    private let blob: Numbers<UInt8>
    private let ends: Numbers<UInt32>
    private let kinds: Numbers<UInt8>
    /// Open addressing: tokens; -1 is empty. A text that several tokens share leads to the first.
    private let table: Numbers<Int32>
    /// Control, unknown and user-defined tokens, sorted by their bytes.
    public let special: Numbers<Int32>

    public var count: Int { kinds.count }

    private static let blobKey = "tokenizer.ebb.token_bytes"
    private static let endsKey = "tokenizer.ebb.token_ends"
    private static let kindsKey = "tokenizer.ebb.token_kinds"
    private static let tableKey = "tokenizer.ebb.token_table"
    private static let specialKey = "tokenizer.ebb.special"

    /// - Throws: ``FormatError`` where there is no vocabulary, or its parts contradict each other.
    public init(_ metadata: Metadata) throws {
        if metadata[Self.endsKey] != nil {
            try self.init(mapped: metadata)
        } else if let lines = metadata.string("tokenizer.ebb.vocabulary") {
            try self.init(lines: lines, metadata)
        } else {
            try self.init(gguf: metadata)
        }
    }

    /// How many tokens a decoder's metadata lists; nil where it has no vocabulary.
    public static func count(_ metadata: Metadata) -> Int? {
        (metadata.array(endsKey) ?? metadata.array("tokenizer.ggml.tokens"))?.count
    }

    private init(mapped metadata: Metadata) throws {
        guard let blob = metadata.numbers(Self.blobKey, UInt8.self),
            let ends = metadata.numbers(Self.endsKey, UInt32.self), ends.count <= Int(Int32.max),
            let kinds = metadata.numbers(Self.kindsKey, UInt8.self), kinds.count == ends.count,
            let table = metadata.numbers(Self.tableKey, Int32.self), HashTable.isPossible(table.count),
            let special = metadata.numbers(Self.specialKey, Int32.self)
        else { throw FormatError("the tokenizer's vocabulary is damaged; import the model again") }
        (self.blob, self.ends, self.kinds, self.table, self.special) = (blob, ends, kinds, table, special)
    }

    /// GGUF's own form: an array of texts, spelled as the kind of tokenizer wants.
    private init(gguf metadata: Metadata) throws {
        guard let tokens = metadata.array("tokenizer.ggml.tokens"), tokens.isStrings, tokens.count > 0 else {
            throw FormatError("the model has no vocabulary (tokenizer.ggml.tokens)")
        }
        var kinds = [Kind](repeating: .normal, count: tokens.count)
        if let types = metadata.array("tokenizer.ggml.token_type")?.integers() {
            guard types.count == tokens.count else {
                throw FormatError("the vocabulary has \(tokens.count) tokens, but \(types.count) token types")
            }
            kinds = types.map { UInt8(exactly: $0).flatMap(Kind.init) ?? .normal }
        }
        let spelling = TokenSpelling(metadata)
        try self.init(kinds) { index, blob in
            let text = tokens.string(index)
            switch kinds[index] {
            case .byte where spelling == .text: blob.append(try Self.byte(text))
            case .control, .userDefined: blob.append(contentsOf: text)
            default: return spelling.spell(text, into: &blob)
            }
            return true
        }
    }

    /// Texts that are found in others.
    public init(found texts: [[UInt8]]) throws {
        try self.init([Kind](repeating: .userDefined, count: texts.count)) { index, blob in
            blob += texts[index]
            return true
        }
    }

    /// Tokens by their ids.
    init(_ tokens: [String], _ kinds: [Kind], _ spelling: TokenSpelling) throws {
        try self.init(kinds) { index, blob in
            let text = Array(tokens[index].utf8)
            if kinds[index] == .normal { return text.withUnsafeBytes { spelling.spell($0, into: &blob) } }
            if kinds[index] == .byte {
                blob.append(try text.withUnsafeBytes { try Self.byte($0) })
                return true
            }
            blob.append(contentsOf: tokens[index].utf8)
            return true
        }
    }

    /// Adds unused tokens to a tokenizer's, where a model has more rows: embeddings are often made larger than they need be.
    static func fill(_ tokens: inout [String], _ kinds: inout [Kind], rows: Int) {
        for id in tokens.count..<max(tokens.count, rows) {
            tokens.append("[PAD\(id)]")
            kinds.append(.unused)
        }
    }

    /// A byte token is written `<0xHH>`.
    private static func byte(_ text: UnsafeRawBufferPointer) throws -> UInt8 {
        let spelled = String(decoding: Array(text), as: UTF8.self)
        guard spelled.hasPrefix("<0x"), spelled.hasSuffix(">"),
            let byte = UInt8(spelled.dropFirst(3).dropLast(), radix: 16)
        else { throw FormatError("the byte token \(spelled) is not of the form <0xHH>") }
        return byte
    }

    /// A token a line, and a list of the control tokens: the smallest form, for models of a few MB.
    private init(lines: String, _ metadata: Metadata) throws {
        let tokens = lines.utf8.split(separator: 0x0a, omittingEmptySubsequences: false)
        var kinds = [Kind](repeating: .normal, count: tokens.count)
        for id in metadata.array("tokenizer.ebb.special_tokens")?.integers() ?? [] {
            guard let index = Int(exactly: id), kinds.indices.contains(index) else {
                throw FormatError("the special token \(id) is not in the vocabulary")
            }
            kinds[index] = .control
        }
        try self.init(kinds) { index, blob in
            blob.append(contentsOf: tokens[index])
            return true
        }
    }

    /// - Parameter append: spells a token; false where it is found by its bytes only if no other token is those.
    private init(_ kinds: [Kind], append: (Int, inout [UInt8]) throws -> Bool) throws {
        var blob: [UInt8] = []
        var ends: [UInt32] = []
        ends.reserveCapacity(kinds.count)
        var (first, last): ([Int], [Int]) = ([], [])
        first.reserveCapacity(kinds.count)
        for index in kinds.indices {
            if try append(index, &blob) { first.append(index) } else { last.append(index) }
            guard let end = UInt32(exactly: blob.count) else { throw FormatError("the vocabulary is over 4 GiB") }
            ends.append(end)
        }
        self.blob = Numbers(blob)
        self.ends = Numbers(ends)
        self.kinds = Numbers(kinds.map(\.rawValue))
        table = Numbers(try Self.table(kinds, first + last, blob, ends))
        special = Self.special(kinds, blob, ends)
    }

    private static func table(
        _ kinds: [Kind], _ order: [Int], _ blob: [UInt8], _ ends: [UInt32]
    ) throws -> [Int32] {
        func text(_ index: Int) -> ArraySlice<UInt8> {
            blob[(index == 0 ? 0 : Int(ends[index - 1]))..<Int(ends[index])]
        }
        var table = [Int32](repeating: -1, count: HashTable.slots(for: kinds.count))
        // A byte token stands for a byte that is left over, never for the text that is that byte.
        for index in order where kinds[index] != .byte {
            let own = text(index)
            let slot = HashTable.find(Self.slot(own.reduce(emptyHash, hash)), slots: table.count) { slot in
                let other = Int(table[slot])
                return other < 0 || text(other).elementsEqual(own)
            }
            guard let slot else { throw HashTable.overfull }
            if table[slot] < 0 { table[slot] = Int32(index) }
        }
        return table
    }

    private static func special(_ kinds: [Kind], _ blob: [UInt8], _ ends: [UInt32]) -> Numbers<Int32> {
        let found = kinds.indices.compactMap { index -> (id: Int32, text: ArraySlice<UInt8>)? in
            guard [.control, .unknown, .userDefined].contains(kinds[index]) else { return nil }
            let text = blob[(index == 0 ? 0 : Int(ends[index - 1]))..<Int(ends[index])]
            return text.isEmpty ? nil : (Int32(index), text)
        }
        let sorted = found.sorted { a, b in
            a.text.lexicographicallyPrecedes(b.text) || (a.text == b.text && a.id < b.id)
        }
        return Numbers(sorted.map(\.id))
    }

    /// What kind of token this is; undefined for an id outside the vocabulary.
    public func kind(_ id: Int32) -> Kind {
        id >= 0 && id < count ? Kind(rawValue: kinds[Int(id)]) ?? .normal : .undefined
    }

    /// The bytes of a token; empty for an id outside the vocabulary.
    public func bytes(_ id: Int32) -> [UInt8] { Array(text(id)) }

    /// Byte `index` of a token; nil beyond its end.
    public func byte(_ id: Int32, _ index: Int) -> UInt8? {
        let text = text(id)
        return index < text.count ? text[index] : nil
    }

    private func text(_ id: Int32) -> UnsafeRawBufferPointer {
        guard id >= 0, id < count else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        let start = id == 0 ? 0 : Int(ends[Int(id) - 1])
        let end = Int(ends[Int(id)])
        guard start <= end, end <= blob.count else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return blob.bytes(start..<end)
    }

    /// Bytes of a token's text; 0 for an id outside the vocabulary.
    public func byteCount(_ id: Int32) -> Int { text(id).count }

    /// The token of exactly these bytes.
    public func id(_ text: ArraySlice<UInt8>) -> Int32? {
        find(text.reduce(Self.emptyHash, Self.hash)) { $0.elementsEqual(text) }
    }

    public func id(_ text: [UInt8]) -> Int32? { id(text[...]) }

    /// The token of these bytes when each space in them is written as `space`.
    public func id(_ text: ArraySlice<UInt8>, space: [UInt8]) -> Int32? {
        var hash = Self.emptyHash
        for byte in text {
            if byte == 0x20 { hash = space.reduce(hash, Self.hash) } else { hash = Self.hash(hash, byte) }
        }
        return find(hash) { token in
            var at = 0
            for byte in text {
                if byte == 0x20 {
                    guard token.count - at >= space.count,
                        space.elementsEqual(token[at..<at + space.count])
                    else { return false }
                    at += space.count
                } else {
                    guard at < token.count, token[at] == byte else { return false }
                    at += 1
                }
            }
            return at == token.count
        }
    }

    /// The longest token that is `prefix` and then the beginning of `text`, and how many bytes of `text` it takes, at
    /// least one; it ends where a character of `text` does. Looks at `limit` bytes of `text` at most.
    public func longest(_ text: ArraySlice<UInt8>, prefix: [UInt8], limit: Int) -> (id: Int32, count: Int)? {
        var hash = prefix.reduce(Self.emptyHash, Self.hash)
        var hashes: [UInt64] = []
        hashes.reserveCapacity(min(limit, text.count))
        for byte in text.prefix(limit) {
            hash = Self.hash(hash, byte)
            hashes.append(hash)
        }
        for count in stride(from: hashes.count, to: 0, by: -1) {
            let end = text.startIndex + count
            guard end == text.endIndex || text[end] & 0xc0 != 0x80 else { continue }
            let found = find(hashes[count - 1]) { token in
                token.count == prefix.count + count && token.starts(with: prefix)
                    && token.dropFirst(prefix.count).elementsEqual(text[..<end])
            }
            if let found { return (found, count) }
        }
        return nil
    }

    /// Calls `body` with the tokens that are the first bytes of a text from `at` on, `limit` at most, shortest first, and with
    /// how many bytes each has. A token ends where a character does.
    public func forEachPrefix(
        _ text: UnsafeBufferPointer<UInt8>, _ at: Int, _ limit: Int, _ body: (Int32, Int) -> Void
    ) {
        var hash = Self.emptyHash
        for count in 1..<max(limit, 0) + 1 {
            hash = Self.hash(hash, text[at + count - 1])
            if at + count < text.count, text[at + count] & 0xc0 == 0x80 { continue }
            let found = find(hash) { token in
                token.count == count && token.elementsEqual(UnsafeRawBufferPointer(text)[at..<at + count])
            }
            if let found { body(found, count) }
        }
    }

    /// For each byte the token that stands for it where it is left over; -1 where there is none.
    public func byteTokens() -> [Int32] {
        var bytes = [Int32](repeating: -1, count: 256)
        for id in 0..<Int32(clamping: count) where kind(id) == .byte {
            if let byte = text(id).first { bytes[Int(byte)] = id }
        }
        return bytes
    }

    /// The bytes of the longest token.
    public var longestToken: Int {
        var (longest, start) = (0, 0)
        for index in 0..<count {
            let end = Int(ends[index])
            longest = max(longest, end - start)
            start = end
        }
        return min(longest, blob.count)
    }

    /// Which bytes stand right before `mark` inside a token, but for those of another `mark`.
    public func bytesBefore(_ mark: [UInt8]) -> [Bool] {
        var found = [Bool](repeating: false, count: 256)
        for id in 0..<Int32(clamping: count) {
            let text = text(id)
            guard !mark.isEmpty, text.count > mark.count else { continue }
            for at in 1...text.count - mark.count where text[at] == mark[0] {
                guard mark.elementsEqual(text[at..<at + mark.count]) else { continue }
                let isRepeated = at >= mark.count && mark.elementsEqual(text[at - mark.count..<at])
                if !isRepeated { found[Int(text[at - 1])] = true }
            }
        }
        return found
    }

    /// FNV-1a (Fowler, Noll, Vo), byte by byte; its upper bits are mixed in at the end.
    private static let emptyHash: UInt64 = 0xcbf2_9ce4_8422_2325

    @inline(__always)
    private static func hash(_ hash: UInt64, _ byte: UInt8) -> UInt64 { (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }

    @inline(__always)
    private static func slot(_ hash: UInt64) -> UInt64 { hash ^ hash >> 29 }

    @inline(__always)
    private func find(_ hash: UInt64, _ matches: (UnsafeRawBufferPointer) -> Bool) -> Int32? {
        var found: Int32 = -1
        let slot = HashTable.find(Self.slot(hash), slots: table.count) { slot in
            found = table[slot]
            return found < 0 || matches(text(found))
        }
        // What was compared, not what may stand in the file by now.
        return slot != nil && found >= 0 && found < count ? found : nil
    }

    func encode(into metadata: inout MetadataEncoder) {
        metadata.set(Self.blobKey, blob)
        metadata.set(Self.endsKey, ends)
        metadata.set(Self.kindsKey, kinds)
        metadata.set(Self.tableKey, table)
        metadata.set(Self.specialKey, special)
    }
}

extension MetadataEncoder {
    private static let listKeys: Set<String> = [
        "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
    ]

    /// Takes over a model's pairs, but for some; GGUF's lists of tokens and merges become tables.
    /// - Throws: ``FormatError`` where those lists are malformed.
    mutating func appendWithTables(_ metadata: Metadata, except: Set<String>) throws {
        let model = metadata.string("tokenizer.ggml.model")
        let hasMerges = model == "gpt2" || model == "gemma4"
        guard metadata.array("tokenizer.ggml.tokens") != nil, hasMerges || ["llama", "bert", "t5"].contains(model)
        else {
            return append(metadata, except: except)
        }
        append(metadata, except: except.union(Self.listKeys))
        let vocabulary = try Vocabulary(metadata)
        vocabulary.encode(into: &self)
        if hasMerges { try MergeTable(metadata, vocabulary).encode(into: &self) }
    }
}
