import ModelFormat

/// SentencePiece's compiled table of replacements (`precompiled_charsmap`): a double-array trie (Yata et al. 2007, as
/// Darts-clone lays it out) from UTF-8 prefixes to texts that stand for them. It is used where it is mapped; a file may hold
/// anything, so every step checks where it leads.
struct CharacterMap: Sendable {
    /// What replacements may make of a byte: more is left out, so that memory is bounded. U+FDFA, three bytes, is 33.
    static let growth = 12

    private let bytes: Numbers<UInt8>
    /// Units of the trie, four bytes each, behind their length.
    private let units: Int
    /// Where the replacements begin, each ended by a zero.
    private let texts: Int

    /// - Throws: ``TextError`` where the table contradicts itself.
    init(_ bytes: Numbers<UInt8>) throws(TextError) {
        self.bytes = bytes
        guard bytes.count >= 4 else { throw TextError("the tokenizer's precompiled_charsmap is too short") }
        let length = (0..<4).reduce(0) { $0 | Int(bytes[$1]) << ($1 * 8) }
        guard length % 4 == 0, length + 4 < bytes.count, bytes[bytes.count - 1] == 0 else {
            throw TextError("the tokenizer's precompiled_charsmap contradicts itself")
        }
        (units, texts) = (length / 4, 4 + length)
    }

    /// The longest prefix of `text` from `at` on that has a replacement, and where that lies; or the shortest.
    func prefix(
        _ text: UnsafeBufferPointer<UInt8>, _ at: Int, _ end: Int, shortest: Bool = false
    ) -> (length: Int, replacement: Int)? {
        guard var node = unit(0).map(Self.base) else { return nil }
        var found: (Int, Int)?
        for place in at..<end {
            let byte = text[place]
            node ^= UInt32(byte)
            // A node's label is that of the step that leads to it.
            guard byte != 0, let unit = unit(node), unit & 0x8000_00ff == UInt32(byte) else { break }
            node ^= Self.base(unit)
            if (unit >> 8) & 1 != 0, let value = self.unit(node) {
                found = (place - at + 1, Int(value & 0x7fff_ffff))
                if shortest { break }
            }
        }
        return found
    }

    /// Appends the replacement that lies there.
    func append(_ replacement: Int, to out: inout [UInt8]) {
        var at = texts + replacement
        while at < bytes.count, bytes[at] != 0 {
            out.append(bytes[at])
            at += 1
        }
    }

    /// Hugging Face's tokenizers replace a whole short grapheme cluster by what its shortest prefix has as a replacement, and
    /// otherwise single characters. Nothing is replaced any more where `limit` bytes have been made.
    func replacingGraphemes(_ bytes: [UInt8], _ range: Range<Int>, limit: Int) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(range.count)
        bytes.withUnsafeBufferPointer { bytes in
            var at = range.lowerBound
            for character in String(decoding: bytes[range], as: UTF8.self) where out.count <= limit {
                let end = min(at + character.utf8.count, range.upperBound)
                if end - at < Self.graphemeLimit, let found = prefix(bytes, at, end, shortest: true) {
                    append(found.replacement, to: &out)
                    at = end
                }
                while at < end, out.count <= limit {
                    let next = min(at + UTF8Text.length(bytes[at]), end)
                    if let found = prefix(bytes, at, next, shortest: true) {
                        append(found.replacement, to: &out)
                    } else {
                        out += bytes[at..<next]
                    }
                    at = next
                }
            }
        }
        return out
    }

    /// Clusters of so many bytes are not looked up whole.
    private static let graphemeLimit = 6

    private static func base(_ unit: UInt32) -> UInt32 { (unit >> 10) << ((unit & (1 << 9)) >> 6) }

    private func unit(_ index: UInt32) -> UInt32? {
        guard index < UInt32(clamping: units) else { return nil }
        let at = 4 + Int(index) * 4
        return (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << UInt32($1 * 8) }
    }
}
