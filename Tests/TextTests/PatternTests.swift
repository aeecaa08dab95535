import Testing
import TestKit

@testable import Text

/// Patterns by trying everything, in the order that a regular expression means: slow, and simple enough to be right.
private struct Backtracking {
    let text: [Unicode.Scalar]

    func end(_ node: PatternNode, from start: Int) -> Int? { match(node, start) { $0 } }

    private func match(_ node: PatternNode, _ at: Int, _ then: (Int) -> Int?) -> Int? {
        switch node {
        case .scalar(let set): return at < text.count && set.contains(text[at]) ? then(at + 1) : nil
        case .look(let set, let allowsEnd):
            return (at < text.count ? set.contains(text[at]) : allowsEnd) ? then(at) : nil
        case .sequence(let parts): return match(parts[...], at, then)
        case .choice(let parts):
            for part in parts { if let end = match(part, at, then) { return end } }
            return nil
        case .repeated(let part, let min, let max, let isLazy):
            if min > 0 {
                let rest = PatternNode.repeated(part, min: min - 1, max: max.map { $0 - 1 }, isLazy: isLazy)
                return match(part, at) { match(rest, $0, then) }
            }
            if max == 0 { return then(at) }
            func more() -> Int? {
                let rest = PatternNode.repeated(part, min: 0, max: max.map { $0 - 1 }, isLazy: isLazy)
                // A loop without end that takes nothing leads nowhere.
                return match(part, at) { max != nil || $0 > at ? match(rest, $0, then) : nil }
            }
            return isLazy ? then(at) ?? more() : more() ?? then(at)
        }
    }

    private func match(_ parts: ArraySlice<PatternNode>, _ at: Int, _ then: (Int) -> Int?) -> Int? {
        guard let first = parts.first else { return then(at) }
        return match(first, at) { match(parts.dropFirst(), $0, then) }
    }
}

@Suite("Patterns of tokenizers")
struct PatternTests {
    /// The pieces of a text: matches, and what lies between them.
    private func pieces(_ text: String, _ steps: [PreTokenizer.Step]) throws -> [String] {
        let bytes = Array(text.utf8)
        let tokenizer = PreTokenizer(steps)
        try tokenizer.check()
        var iterator = tokenizer.pieces(bytes.indices)
        var pieces: [String] = []
        bytes.withUnsafeBufferPointer { bytes in
            while let piece = iterator.next(bytes) { pieces.append(String(decoding: bytes[piece], as: UTF8.self)) }
        }
        return pieces
    }

    private func pieces(_ text: String, _ pattern: String) throws -> [String] {
        try pieces(text, [.init(pattern: pattern)])
    }

    private func randomPattern(_ random: inout TestRandom, depth: Int) -> String {
        let sets = ["a", "b", "c", "[ab]", "[^a]", "\\s", "\\p{L}", "[^\\s\\p{L}]", "é", "(?i:B)"]
        let ends = ["", "", "", "?", "*", "+", "{1,3}", "{2}", "*?", "+?", "??", "++", "?+", "*+", "{1,2}+"]
        switch Int.random(in: 0..<(depth > 0 ? 8 : 4), using: &random) {
        case 0...2:
            return (sets.randomElement(using: &random) ?? "") + (ends.randomElement(using: &random) ?? "")
        case 3: return ["(?!a)", "(?=[bc])", "(?!\\S)", "$"].randomElement(using: &random) ?? ""
        case 4, 5:
            return randomPattern(&random, depth: depth - 1) + randomPattern(&random, depth: depth - 1)
        case 6:
            return "(?:" + randomPattern(&random, depth: depth - 1) + "|" + randomPattern(&random, depth: depth - 1)
                + ")" + (["", "?", "*", "{0,2}", "+?"].randomElement(using: &random) ?? "")
        default:
            return randomPattern(&random, depth: depth - 1) + "|" + randomPattern(&random, depth: depth - 1)
        }
    }

    @Test("A match is the one that backtracking finds, for random patterns and texts")
    func agreesWithBacktracking() throws {
        var random = TestRandom(seed: 41)
        let scalars: [Unicode.Scalar] = ["a", "b", "c", "B", " ", "\n", "é", "中", "1", "\u{1f600}"]
        var matches = 0
        for _ in 0..<3000 {
            let pattern = randomPattern(&random, depth: 3)
            guard let node = try? PatternParser.parse(pattern) else { continue }
            let matcher = try PatternMatcher(pattern)
            for _ in 0..<8 {
                let text = (0..<Int.random(in: 0..<12, using: &random)).map { _ in
                    scalars.randomElement(using: &random) ?? "a"
                }
                let bytes = Array(String(String.UnicodeScalarView(text)).utf8)
                let expected = Backtracking(text: text).end(node, from: 0) ?? 0
                var failures = PatternMatcher.Failures()
                let found = bytes.withUnsafeBufferPointer { matcher.matchEnd($0, 0, $0.count, &failures) }
                let length = String(String.UnicodeScalarView(text.prefix(expected))).utf8.count
                #expect(found == length, "\(pattern) in \(String(String.UnicodeScalarView(text)).debugDescription)")
                if expected > 0 { matches += 1 }
            }
        }
        // A few patterns repeat what is nothing, and are refused.
        #expect(matches > 3000)
    }

    @Test(
        "Patterns mean what regular expressions mean",
        arguments: [
            (#"\s+(?!\S)|\s+|\S+"#, "a   b", ["a", "  ", " ", "b"]),
            (#"\p{N}{1,3}"#, "1234567x89", ["123", "456", "7", "x", "89"]),
            (#"(?i:'s|'re)|\w+"#, "it'S we're", ["it", "'S", " ", "we", "'re"]),
            (#"[\p{Lu}\p{Lt}]+|[\p{Ll}&&[^xyz]]+"#, "ABcdxyE", ["AB", "cd", "xy", "E"]),
            (#"\p{Han}+|[^\p{Han}]+"#, "ab中文cd", ["ab", "中文", "cd"]),
            (#" ?+a|b"#, " a a b", [" a", " a", " ", "b"]),
            (#"[^\r\n\p{L}\p{N}]?+\p{L}+"#, ".abc!!d", [".abc", "!", "!d"]),
            (#"a{2}|a"#, "aaa", ["aa", "a"]), (#"a{,2}b"#, "aab", ["aab"]), (#"x{a"#, "x{a", ["x{a"]),
            (#"\x{4e2d}|\u4e2e|[\x41-\x43]"#, "中A丮", ["中", "A", "丮"]),
        ])
    func meaning(pattern: String, text: String, expected: [String]) throws {
        #expect(try pieces(text, pattern) == expected)
    }

    @Test(
        "What a pattern has that is not supported is named",
        arguments: [
            ("(?<=a)b", "(?<"), ("(?>ab)", "(?>"), ("(ab)++", "possessive"), ("(?=ab)c", "look-ahead"), ("^a", "^"),
            ("\\1", "\\1"), ("\\bword", "\\b"), ("\\p{Klingon}", "Klingon"), ("[a", "]"), ("(a", ")"), ("a)", ")"),
            ("*a", "repeats"), ("[b-a]", "range"), ("a{2,1}", "bounds"), ("(?x: a)", "option x"), ("a\\", "backslash"),
            ("[[:alpha:]]", "POSIX"), ("(a*|b)*", "nothing"),
        ])
    func refusals(pattern: String, word: String) {
        let error = #expect(throws: TextError.self) { try PatternMatcher(pattern) }
        #expect(error?.description.contains(word) == true, "\(error?.description ?? "")")
    }

    @Test("A pattern that is cut off, or has a character in the wrong place, is read or refused")
    func damage() throws {
        var random = TestRandom(seed: 43)
        let signs = Array("()[]{}?*+|\\^$-,:!=<>ipux&1".unicodeScalars)
        for name in BytePairRules.names.sorted() {
            for step in try #require(BytePairRules(named: name)).steps {
                let scalars = Array(step.pattern.unicodeScalars)
                for _ in 0..<20 {
                    var damaged = Array(scalars.prefix(Int.random(in: 0...scalars.count, using: &random)))
                    for _ in 0..<Int.random(in: 0...2, using: &random) {
                        let at = Int.random(in: 0...damaged.count, using: &random)
                        damaged.insert(try #require(signs.randomElement(using: &random)), at: at)
                    }
                    _ = try? PatternParser.parse(String(String.UnicodeScalarView(damaged)))
                }
            }
        }
        let ends = ["(?", "(?i", "(?-", "(?i:", "[", "[^", "[a-", "\\", "\\p", "\\p{", "\\x", "\\x{", "a{", "a{1,"]
        for text in ends {
            _ = try? PatternParser.parse(text)
        }
    }

    @Test(
        "A pattern made to be large is refused, soon",
        arguments: [
            "((((a{1000}){1000}){1000}){1000}){1000}", "(((((){1000}){1000}){1000}){1000}){1000}",
            "(a|b)*a(a|b){20}", String(repeating: "(", count: 60_000), String(repeating: "a", count: 70_000),
            "(" + (0..<400).map { "\\x{\(String(0x4e00 + 2 * $0, radix: 16))}" }.joined(separator: "b|") + ")",
        ])
    func largePatterns(pattern: String) {
        #expect(throws: TextError.self) { try PatternMatcher(pattern) }
    }

    @Test("Every pre-tokenizer's patterns are compiled, and lose nothing of any text")
    func allNames() throws {
        var random = TestRandom(seed: 42)
        let scalars: [Unicode.Scalar] =
            [
                "a", "Z", "ß", "中", "の", "한", "9", "٣", "Ⅷ", " ", "\n", "\r", "\t", "\u{a0}", "\u{3000}", "'", "s", "!",
                "…",
            ]
            + ["\u{301}", "\u{200d}", "\u{1f600}", "$", "/", "\u{e000}", "\u{10ffff}", "ſ", "ก", "(", "|", "\0"]
        for name in BytePairRules.names.sorted() {
            let steps = try #require(BytePairRules(named: name)).steps
            for _ in 0..<100 {
                let text = String(
                    String.UnicodeScalarView(
                        (0..<40).map { _ in scalars.randomElement(using: &random) ?? "a" }))
                let pieces = try pieces(text, steps)
                #expect(pieces.joined() == text, "\(name)")
                #expect(!pieces.contains(""), "\(name)")
            }
        }
    }

    @Test("Digits are grouped by threes from their end")
    func digitGroups() throws {
        let steps = try #require(BytePairRules(named: "superbpe")).steps
        #expect(try pieces("1234567 12 x٣٤٥٦", steps) == ["1", "234", "567", " ", "12", " x", "٣", "٤٥٦"])
    }

    @Test("Scans that go far beyond their matches take no minute for a megabyte", arguments: ["中", "x", ""])
    func longScans(end: String) throws {
        let text = String(repeating: " ", count: 1 << 20) + end
        let start = ContinuousClock.now
        #expect(try pieces(text, #"\s+$"#).joined() == text)
        #expect(try pieces(text, #"\s+a|b"#).joined() == text)
        #expect(ContinuousClock.now - start < .seconds(60))
    }

    @Test("What Unicode calls Han, white space or a letter is in the sets of those names")
    func unicodeSets() throws {
        let han = try #require(UnicodeSets.script("Han"))
        #expect(["中", "々", "〇", "\u{20000}"].allSatisfy { han.contains($0) })
        #expect(!["の", "한", "a", "。"].contains { han.contains($0) })
        let letters = try #require(UnicodeSets.category("L"))
        var random = TestRandom(seed: 43)
        for _ in 0..<20_000 {
            guard let scalar = Unicode.Scalar(UInt32.random(in: 0...0x10ffff, using: &random)) else { continue }
            let isLetter = [.uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter]
                .contains(scalar.properties.generalCategory)
            #expect(letters.contains(scalar) == isLetter)
            #expect(UnicodeSets.whitespace.contains(scalar) == scalar.properties.isWhitespace)
        }
    }
}
