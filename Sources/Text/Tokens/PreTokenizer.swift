/// Splits text into the pieces that byte-level BPE works on, each a range of Unicode scalars.
/// The patterns are those that the models' own tokenizers use, as scanners instead of regular expressions.
enum PreTokenizer: String, Sendable {
    /// First every digit alone (`\p{N}`), then GPT-2's pattern:
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)`.
    case smollm
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
    case qwen2

    /// What the patterns tell apart.
    enum Class: UInt8 {
        case letter, number, newline, space, other

        init(_ scalar: Unicode.Scalar) {
            switch scalar.value {
            case 0x41...0x5a, 0x61...0x7a: self = .letter
            case 0x30...0x39: self = .number
            case 0x0a, 0x0d: self = .newline
            case 0x09, 0x0b, 0x0c, 0x20: self = .space
            case 0..<0x80: self = .other
            default:
                if scalar.properties.isWhitespace { self = .space; return }
                switch scalar.properties.generalCategory {
                case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
                case .decimalNumber, .letterNumber, .otherNumber: self = .number
                default: self = .other
                }
            }
        }

        var isSpace: Bool { self == .space || self == .newline }
        /// `[^\s\p{L}\p{N}]`
        var isOther: Bool { self == .other }
    }

    /// The ends of the pieces, ascending; the last is `scalars.count`.
    func split(_ scalars: [Unicode.Scalar]) -> [Int] {
        let classes = scalars.map(Class.init)
        var ends: [Int] = []
        switch self {
        case .smollm:
            var start = 0
            while start < classes.count {
                if classes[start] == .number {
                    start += 1
                    ends.append(start)
                    continue
                }
                var end = start
                while end < classes.count, classes[end] != .number { end += 1 }
                while start < end {
                    start = Self.gpt2(scalars, classes, start, end)
                    ends.append(start)
                }
            }
        case .qwen2:
            var start = 0
            while start < classes.count {
                start = Self.qwen2(scalars, classes, start)
                ends.append(start)
            }
        }
        return ends
    }

    private static func run(_ classes: [Class], _ from: Int, _ end: Int, _ matches: (Class) -> Bool) -> Int {
        var at = from
        while at < end, matches(classes[at]) { at += 1 }
        return at
    }

    /// Length of `'s 't 're 've 'm 'll 'd` at `at`, or 0.
    private static func contraction(_ scalars: [Unicode.Scalar], _ at: Int, _ end: Int, anyCase: Bool) -> Int {
        guard scalars[at] == "'" else { return 0 }
        func letter(_ i: Int) -> Unicode.Scalar? {
            guard at + i < end else { return nil }
            let s = scalars[at + i]
            return anyCase && (0x41...0x5a).contains(s.value) ? Unicode.Scalar(s.value + 32) : s
        }
        switch (letter(1), letter(2)) {
        case ("s", _), ("t", _), ("m", _), ("d", _): return 2
        case ("r", "e"), ("v", "e"), ("l", "l"): return 3
        default: return 0
        }
    }

    /// Spaces at the end of the text stay together; before a word the last one is left to the word.
    private static func spaces(_ classes: [Class], _ at: Int, _ end: Int) -> Int {
        let stop = run(classes, at, end) { $0.isSpace }
        return stop == end || stop - at == 1 ? stop : stop - 1
    }

    private static func gpt2(_ scalars: [Unicode.Scalar], _ classes: [Class], _ at: Int, _ end: Int) -> Int {
        let short = contraction(scalars, at, end, anyCase: false)
        if short > 0 { return at + short }
        let body = scalars[at] == " " && at + 1 < end ? at + 1 : at
        switch classes[body] {
        case .letter: return run(classes, body, end) { $0 == .letter }
        case .number: return run(classes, body, end) { $0 == .number }
        case .other: return run(classes, body, end) { $0.isOther }
        case .space, .newline: return spaces(classes, at, end)
        }
    }

    private static func qwen2(_ scalars: [Unicode.Scalar], _ classes: [Class], _ at: Int) -> Int {
        let end = classes.count
        let short = contraction(scalars, at, end, anyCase: true)
        if short > 0 { return at + short }
        if classes[at] == .letter { return run(classes, at, end) { $0 == .letter } }
        if classes[at] == .number { return at + 1 }
        if classes[at] != .newline, at + 1 < end, classes[at + 1] == .letter {
            return run(classes, at + 1, end) { $0 == .letter }
        }
        let body = scalars[at] == " " && at + 1 < end ? at + 1 : at
        if classes[body].isOther {
            let stop = run(classes, body, end) { $0.isOther }
            return run(classes, stop, end) { $0 == .newline }
        }
        let stop = run(classes, at, end) { $0.isSpace }
        if let last = (at..<stop).last(where: { classes[$0] == .newline }) { return last + 1 }
        return spaces(classes, at, end)
    }
}
