import Foundation
import ModelFormat

/// WordPiece (Wu et al. 2016) as BERT uses it: text is cleaned, lowercased and split at spaces and punctuation
/// (Devlin et al. 2019, `BertNormalizer` and `BertPreTokenizer` of Hugging Face tokenizers); each word becomes the longest
/// pieces of the vocabulary, from its front; pieces inside a word begin with `##`.
struct WordPieceEncoder: Sendable {
    private let vocabulary: Vocabulary
    private let unknown: Int32
    private let lowercases: Bool
    /// Longer words are unknown.
    private static let longestWord = 100
    static let continuation = Array("##".utf8)

    init(_ metadata: Metadata, vocabulary: Vocabulary) throws {
        self.vocabulary = vocabulary
        guard let unknown = metadata.integer("tokenizer.ggml.unknown_token_id"),
            (0..<vocabulary.count).contains(unknown)
        else { throw TextError("the WordPiece vocabulary has no unknown token (tokenizer.ggml.unknown_token_id)") }
        self.unknown = Int32(unknown)
        lowercases = metadata.bool("tokenizer.ebb.lowercase") ?? true
    }

    func encode(_ text: Substring, into ids: inout [Int32]) {
        var word: [UInt8] = []
        var scalars = 0
        func flush() {
            if !word.isEmpty { encodeWord(word, scalars, into: &ids) }
            word.removeAll(keepingCapacity: true)
            scalars = 0
        }
        for scalar in normalized(text) {
            if scalar.properties.isWhitespace {
                flush()
                continue
            }
            let alone = Self.isPunctuation(scalar)
            if alone { flush() }
            word.append(contentsOf: UTF8.encode(scalar).map { Array($0) } ?? [])
            scalars += 1
            if alone { flush() }
        }
        flush()
    }

    private func encodeWord(_ word: [UInt8], _ scalars: Int, into ids: inout [Int32]) {
        guard scalars <= Self.longestWord else { return ids.append(unknown) }
        let first = ids.count
        var start = 0
        while start < word.count {
            guard let (id, end) = longestPiece(word, from: start) else {
                ids.removeSubrange(first...)
                return ids.append(unknown)
            }
            ids.append(id)
            start = end
        }
    }

    private func longestPiece(_ word: [UInt8], from start: Int) -> (Int32, Int)? {
        var end = word.count
        while end > start {
            let isCharacterEnd = end == word.count || word[end] & 0xc0 != 0x80
            if isCharacterEnd {
                let piece = word[start..<end]
                if let id = start == 0 ? vocabulary.id(piece) : vocabulary.id(Self.continuation + piece) {
                    return (id, end)
                }
            }
            end -= 1
        }
        return nil
    }

    private func normalized(_ text: Substring) -> [Unicode.Scalar] {
        var clean = String.UnicodeScalarView()
        for scalar in text.unicodeScalars where !Self.isDropped(scalar) {
            if Self.isIdeograph(scalar) {
                clean.append(contentsOf: [" ", scalar, " "])
            } else {
                clean.append(scalar.properties.isWhitespace ? " " : scalar)
            }
        }
        guard lowercases else { return Array(clean) }
        let isASCII = clean.allSatisfy(\.isASCII)
        let decomposed = isASCII ? clean : String(clean).decomposedStringWithCanonicalMapping.unicodeScalars
        var out: [Unicode.Scalar] = []
        for scalar in decomposed where scalar.properties.generalCategory != .nonspacingMark {
            out.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
        }
        return out
    }

    /// Control characters other than white space.
    private static func isDropped(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "\t", "\n", "\r": return false
        case "\u{0}", "\u{fffd}": return true
        default: break
        }
        switch scalar.properties.generalCategory {
        case .control, .format, .privateUse, .surrogate: return true
        default: return false
        }
    }

    private static func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 33...47, 58...64, 91...96, 123...126: return true
        default: break
        }
        switch scalar.properties.generalCategory {
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
            .finalPunctuation, .otherPunctuation:
            return true
        default: return false
        }
    }

    /// CJK ideographs stand alone, as words do.
    private static func isIdeograph(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x4e00...0x9fff, 0x3400...0x4dbf, 0x20000...0x2a6df, 0x2a700...0x2b73f, 0x2b740...0x2b81f,
            0x2b820...0x2ceaf, 0xf900...0xfaff, 0x2f800...0x2fa1f:
            true
        default: false
        }
    }
}
