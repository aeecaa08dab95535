/// Splits text into the pieces that byte-level BPE works on, one after another, in a scan that looks at no byte more than a
/// few times. The patterns are those that the models' own tokenizers use, as scanners instead of regular expressions.
enum PreTokenizer: String, Sendable {
    /// First every digit alone (`\p{N}`), then GPT-2's pattern:
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)`.
    case smollm
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
    case qwen2

    /// Whether the models' own tokenizers bring text to Unicode's form NFC first (`"normalizer": {"type": "NFC"}`).
    var composes: Bool { self == .qwen2 }

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

    /// Where the piece that begins at `at` ends: behind `at`, and at most at `end`.
    func pieceEnd(_ bytes: [UInt8], _ at: Int, _ end: Int) -> Int {
        let scan = Scan(bytes: bytes, end: end)
        return switch self {
        case .smollm: scan.smollm(at)
        case .qwen2: scan.qwen2(at)
        }
    }
}

/// The patterns over bytes of UTF-8 up to `end`.
private struct Scan {
    typealias Class = PreTokenizer.Class

    let bytes: [UInt8]
    let end: Int

    /// The class of the character at `at`, and where the next one begins.
    @inline(__always)
    private func look(_ at: Int) -> (kind: Class, next: Int) {
        let (scalar, next) = UTF8Text.scalar(bytes, at)
        return (Class(scalar), min(next, end))
    }

    /// nil at the end.
    private func kind(_ at: Int) -> Class? { at < end ? look(at).kind : nil }

    @inline(__always)
    private func run(_ from: Int, _ matches: (Class) -> Bool) -> Int {
        var at = from
        while at < end {
            let (kind, next) = look(at)
            guard matches(kind) else { break }
            at = next
        }
        return at
    }

    /// Length of `'s 't 're 've 'm 'll 'd` at `at`, or 0.
    private func contraction(_ at: Int, anyCase: Bool) -> Int {
        guard bytes[at] == UInt8(ascii: "'") else { return 0 }
        func letter(_ i: Int) -> UInt8? {
            guard at + i < end else { return nil }
            let byte = bytes[at + i]
            return anyCase && (0x41...0x5a).contains(byte) ? byte + 32 : byte
        }
        func isPair(_ text: StaticString) -> Bool {
            letter(1) == text.utf8Start[0] && letter(2) == text.utf8Start[1]
        }
        switch letter(1) {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return 2
        default: return isPair("re") || isPair("ve") || isPair("ll") ? 3 : 0
        }
    }

    /// Spaces at the end of the text stay together; before a word the last one is left to the word.
    private func spaces(_ at: Int, isEnd: (Int) -> Bool) -> Int {
        var (stop, last) = (at, at)
        while stop < end {
            let (kind, next) = look(stop)
            guard kind.isSpace else { break }
            (last, stop) = (stop, next)
        }
        return last == at || isEnd(stop) ? stop : last
    }

    func smollm(_ at: Int) -> Int {
        let (first, next) = look(at)
        if first == .number { return next }
        let short = contraction(at, anyCase: false)
        if short > 0 { return at + short }
        // A number ends the part that GPT-2's pattern sees.
        let second = kind(next)
        let isLed = bytes[at] == 0x20 && second != nil && second != .number
        switch isLed ? second : first {
        case .letter: return run(isLed ? next : at) { $0 == .letter }
        case .other: return run(isLed ? next : at) { $0.isOther }
        default: return spaces(at) { stop in kind(stop) == nil || kind(stop) == .number }
        }
    }

    func qwen2(_ at: Int) -> Int {
        let short = contraction(at, anyCase: true)
        if short > 0 { return at + short }
        let (first, next) = look(at)
        if first == .letter { return run(next) { $0 == .letter } }
        if first == .number { return next }
        let second = kind(next)
        if first != .newline, second == .letter { return run(next) { $0 == .letter } }
        if first.isOther || (bytes[at] == 0x20 && second?.isOther == true) {
            let stop = run(next) { $0.isOther }
            return run(stop) { $0 == .newline }
        }
        var (stop, afterNewline) = (at, at)
        while stop < end {
            let (kind, next) = look(stop)
            guard kind.isSpace else { break }
            stop = next
            if kind == .newline { afterNewline = next }
        }
        return afterNewline > at ? afterNewline : spaces(at) { $0 == end }
    }
}
