import ModelFormat
import Testing
import TestKit
import Text

/// Long texts are encoded from whole characters where that changes nothing, short ones from bytes: each word of a long text
/// becomes what it becomes alone.
@Suite("Encoding that begins with whole characters")
struct WholeCharacterTests {
    private func expectSame(_ words: [String], _ tokenizer: Tokenizer) {
        func ids(_ text: String) -> [Int32] { tokenizer.encode(text, addSpecial: false, parseSpecial: false) }
        let wanted = words.flatMap { ids($0) + ids("\n") }
        #expect(words.reduce(0) { $0 + $1.utf8.count } > 1 << 13)
        let found = ids(words.joined(separator: "\n") + "\n")
        let place = zip(found, wanted).enumerated().first { $1.0 != $1.1 }?.offset
        #expect(
            found == wanted, "from token \(place ?? 0) on: \(tokenizer.decode(wanted.dropFirst(place ?? 0).prefix(20)))"
        )
    }

    @Test("Words of a long text become the tokens that they become alone", arguments: [RealModel.smollm2, .qwen2])
    func realModels(model: RealModel) throws {
        let tokenizer = try Tokenizer(try GGUFFile(path: try model.path).metadata)
        var random = TestRandom(seed: 61)
        // Han, kana, Hangul, Cyrillic, Arabic, Latin; 选 and others that a token joins to a part of a character.
        let ranges: [ClosedRange<UInt32>] = [
            0x4e00...0x9fff, 0x4e00...0x4fff, 0x3041...0x3096, 0x30a1...0x30fa, 0xac00...0xd7a3, 0x410...0x44f,
            0x621...0x64a, 0x61...0x7a, 0xe0...0xff,
        ]
        let joined = Array("选し建っー擇推習フ的一，。 ".unicodeScalars)
        let words = (0..<3000).map { _ in
            var word = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 1...20, using: &random) {
                let value = ranges.randomElement(using: &random).map { UInt32.random(in: $0, using: &random) }
                let drawn = Int.random(in: 0..<4, using: &random) == 0 ? joined.randomElement(using: &random) : nil
                if let scalar = drawn ?? value.flatMap(Unicode.Scalar.init) { word.append(scalar) }
            }
            return "好" + String(word) + "好"
        }
        expectSame(words, tokenizer)
    }

    /// Byte-pair encoding trained on random words of characters that share bytes: many of its tokens join parts of two.
    private func trained(_ words: [[UInt8]]) throws -> Tokenizer {
        var tokens = (0...255).map { [UInt8($0)] }
        var texts = words.map { $0.map(Int.init) }
        var merges: [(Int, Int)] = []
        for _ in 0..<120 {
            var counts: [Int: Int] = [:]
            for text in texts { for (a, b) in zip(text, text.dropFirst()) { counts[a << 16 | b, default: 0] += 1 } }
            guard let best = counts.max(by: { ($0.value, $1.key) < ($1.value, $0.key) })?.key else { break }
            let pair = [best >> 16, best & 0xffff]
            guard !tokens.contains(tokens[pair[0]] + tokens[pair[1]]) else { break }
            tokens.append(tokens[pair[0]] + tokens[pair[1]])
            merges.append((pair[0], pair[1]))
            texts = texts.map { text in
                text.reduce(into: [Int]()) { out, symbol in
                    if out.last == pair[0], symbol == pair[1] {
                        out[out.count - 1] = tokens.count - 1
                    } else {
                        out.append(symbol)
                    }
                }
            }
        }
        let spelled = tokens.map(Self.spelled)
        let bytes = TinyLlama.gguf { builder in
            builder.pairs.removeAll {
                $0.0.hasSuffix(".tokens") || $0.0.hasSuffix(".merges") || $0.0.hasSuffix("_type")
                    || $0.0.hasSuffix(".pre")
            }
            builder.pairs += [
                ("tokenizer.ggml.tokens", .strings(spelled)), ("tokenizer.ggml.pre", .string("gpt-2")),
                ("tokenizer.ggml.merges", .strings(merges.map { spelled[$0.0] + " " + spelled[$0.1] })),
            ]
        }
        let folder = try TemporaryFolder()
        return try Tokenizer(try GGUFFile(path: try folder.write("in.gguf", bytes)).metadata)
    }

    /// In GPT-2's alphabet for bytes.
    private static func spelled(_ bytes: [UInt8]) -> String {
        let plain = (0...255).filter { (33...126).contains($0) || (161...172).contains($0) || (174...255).contains($0) }
        let others = (0...255).filter { !plain.contains($0) }
        var text = String.UnicodeScalarView()
        for byte in bytes {
            let value = others.firstIndex(of: Int(byte)).map { 256 + $0 } ?? Int(byte)
            if let scalar = Unicode.Scalar(UInt32(value)) { text.append(scalar) }
        }
        return String(text)
    }

    @Test("Tokens that join parts of two characters are found in long texts as in short ones", arguments: 0..<8)
    func crossing(seed: UInt64) throws {
        var random = TestRandom(seed: seed)
        let first = [UInt32(0x4e00), 0x430, 0x3041, 0xac00][Int(seed % 4)]
        let letters = (0..<UInt32(seed * 7 + 6)).compactMap { Unicode.Scalar(first + $0 * (seed < 4 ? 61 : 17)) }
        func word() -> String {
            var word = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 1...12, using: &random) {
                // A few are so frequent that what stands beside them is merged to them before it is a character.
                let count = Bool.random(using: &random) ? 3 : letters.count
                word.append(letters[Int.random(in: 0..<count, using: &random)])
            }
            return String(word)
        }
        let tokenizer = try trained((0..<200).map { _ in Array(word().utf8) })
        expectSame((0..<2000).map { _ in word() }, tokenizer)
    }
}
