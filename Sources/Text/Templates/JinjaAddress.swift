/// What `urlize` takes for an address. Its patterns are matched by hand, each character looked at a few times: their
/// parts end where a character stands that they cannot have.
enum JinjaAddress {
    private typealias Scalars = ArraySlice<Unicode.Scalar>

    // MARK: Where it stands

    /// The bytes of a word, escaped for HTML, without opening brackets before it and closing ones and stops behind it.
    static func place(in word: [UInt8]) -> Range<Int> {
        let (less, greater) = (Array("&lt;".utf8), Array("&gt;".utf8))
        var start = 0
        while start < word.count {
            if word[start] == UInt8(ascii: "(") || word[start] == UInt8(ascii: "<") {
                start += 1
            } else if word[start...].starts(with: less) {
                start += less.count
            } else {
                break
            }
        }
        var end = word.count
        while end > start {
            if ")>.,".utf8.contains(word[end - 1]) {
                end -= 1
            } else if end - start >= greater.count, word[end - greater.count..<end].elementsEqual(greater) {
                end -= greater.count
            } else {
                break
            }
        }
        // An address keeps the closing brackets that it opens.
        for (open, close) in [
            ([UInt8(ascii: "(")], [UInt8(ascii: ")")]), ([UInt8(ascii: "<")], [UInt8(ascii: ">")]), (less, greater),
        ] {
            let opened = places(of: open, in: word[start..<end]).count
            guard opened > places(of: close, in: word[start..<end]).count else { continue }
            let closing = places(of: close, in: word[end...])
            if let last = closing.prefix(opened).last { end = last + close.count }
        }
        return start..<end
    }

    private static func places(of mark: [UInt8], in bytes: ArraySlice<UInt8>) -> [Int] {
        var found: [Int] = []
        var at = bytes.startIndex
        while bytes.endIndex - at >= mark.count {
            if bytes[at...].starts(with: mark) {
                found.append(at)
                at += mark.count
            } else {
                at += 1
            }
        }
        return found
    }

    // MARK: Pages

    private static let domains: Set<String> = ["com", "net", "int", "edu", "gov", "org", "info", "mil"]

    /// A page: a scheme or `www.` and a host, or a host of a domain that everyone knows; a port; a path.
    static func isPage(_ text: String) -> Bool {
        let scalars = Array(text.unicodeScalars)
        let scheme = ["https://", "http://"].first { starts(scalars, with: $0) }?.unicodeScalars.count
        let start = scheme ?? 0
        if scheme != nil, start < scalars.count, scalars[start] == "[" {
            guard let end = scalars[start...].firstIndex(of: "]") else { return false }
            return isIPv6(scalars[start + 1..<end]) && isPort(scalars[(end + 1)...])
        }
        let end = scalars[start...].firstIndex { !isHostPart($0) && $0 != "." } ?? scalars.count
        guard isPort(scalars[end...]) else { return false }
        let host = scalars[start..<end]
        if scheme != nil { return isHost(host) || isIPv4(host) }
        return starts(scalars, with: "www.") && isHost(host.dropFirst(4)) || isKnownHost(host)
    }

    private static func isHostPart(_ scalar: Unicode.Scalar) -> Bool {
        scalar == "-" || scalar == "%" || scalar.isPythonWord
    }

    /// Python's patterns, where they ignore case, take these for letters of ASCII, too.
    private static func folded(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
        switch scalar {
        case "A"..."Z": Unicode.Scalar(UInt8(ascii: scalar) + 0x20)
        case "\u{17f}": "s"
        case "\u{130}", "\u{131}": "i"
        case "\u{212a}": "k"
        default: scalar
        }
    }

    private static func starts(_ scalars: [Unicode.Scalar], with prefix: String) -> Bool {
        scalars.lazy.map(folded).starts(with: prefix.unicodeScalars)
    }

    private static func labels(_ host: Scalars) -> [Scalars] {
        host.split(separator: ".", omittingEmptySubsequences: false)
    }

    private static func isHost(_ host: Scalars) -> Bool {
        let labels = labels(host)
        guard let last = labels.last, labels.allSatisfy({ !$0.isEmpty }) else { return false }
        if (2...63).contains(last.count), last.allSatisfy({ ("a"..."z").contains(folded($0)) }) { return true }
        return (6...63).contains(last.count) && last.lazy.map(folded).starts(with: "xn--".unicodeScalars)
            && last.dropFirst(4).allSatisfy { $0 == "%" || $0.isPythonWord }
    }

    private static func isKnownHost(_ host: Scalars) -> Bool {
        let labels = labels(host)
        guard labels.count > 1, let last = labels.last, last.count <= 4 else { return false }
        return labels.dropLast().allSatisfy { (2...63).contains($0.count) }
            && domains.contains(last.reduce(into: "") { $0.unicodeScalars.append(folded($1)) })
    }

    private static func isDigit(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.numericType == .decimal }

    private static func isIPv4(_ host: Scalars) -> Bool {
        let parts = labels(host)
        return parts.count == 4 && parts.allSatisfy { (1...3).contains($0.count) && $0.allSatisfy(isDigit) }
    }

    /// Up to eight groups of up to four digits; the colon may be missing behind all but the first two.
    private static func isIPv6(_ text: Scalars) -> Bool {
        var rest = text
        for index in 0..<8 {
            let digits = rest.prefix(4).prefix { isDigit($0) || ("a"..."f").contains(folded($0)) }
            rest = rest.dropFirst(digits.count)
            if rest.first == ":" {
                rest = rest.dropFirst()
            } else if index < 2 {
                return false
            }
        }
        return rest.isEmpty
    }

    /// A port or none, a path or none.
    private static func isPort(_ text: Scalars) -> Bool {
        var rest = text
        if rest.first == ":" {
            let digits = rest.dropFirst().prefix(5).prefix(while: isDigit)
            guard !digits.isEmpty else { return false }
            rest = rest.dropFirst(1 + digits.count)
        }
        guard let next = rest.first else { return true }
        return next == "/" || next == "?" || next == "#"
    }

    // MARK: Mail and schemes

    static func isMail(_ text: Substring.UTF8View) -> Bool {
        guard let at = text.lastIndex(of: UInt8(ascii: "@")), at > text.startIndex else { return false }
        let host = Array(Substring(text[text.index(after: at)...]).unicodeScalars)
        guard let first = host.first, first.isPythonWord, let dot = host.lastIndex(of: "."), dot + 1 < host.count
        else { return false }
        return host.allSatisfy { $0.isPythonWord || $0 == "." || $0 == "-" }
            && host[(dot + 1)...].allSatisfy(\.isPythonWord)
    }

    static func isScheme(_ text: String) -> Bool {
        let name = text.unicodeScalars.prefix { $0.isPythonWord || ".+-".unicodeScalars.contains($0) }
        let rest = text.unicodeScalars.dropFirst(name.count)
        return name.count >= 2 && rest.first == ":" && rest.count <= 3 && rest.dropFirst().allSatisfy { $0 == "/" }
    }
}
