/// A text that remembers which of its bytes came from a request, through everything that a template does with it: what a
/// user writes is then never read as a control token.
struct TemplateText {
    private(set) var string: String
    /// Where bytes of UTF-8 from the request stand: in order, apart from each other.
    private(set) var foreign: [Range<Int>] = []
    /// What jinja2's `safe` and `escape` give: adding other text to it escapes that for HTML.
    var isMarkup = false

    init(_ string: String = "") { self.string = string }

    init(foreign string: String) {
        self.string = string
        if !string.isEmpty { foreign = [0..<string.utf8.count] }
    }

    init(_ string: String, foreign isForeign: Bool) {
        self = isForeign ? TemplateText(foreign: string) : TemplateText(string)
    }

    /// The same text, all of it from the request if `isForeign` says so.
    func foreign(if isForeign: Bool) -> TemplateText {
        guard isForeign else { return self }
        var text = TemplateText(foreign: string)
        text.isMarkup = isMarkup
        return text
    }

    var isForeign: Bool { !foreign.isEmpty }
    var count: Int { string.utf8.count }
    var isEmpty: Bool { string.isEmpty }
    /// Bytes of memory, about.
    var cost: Int { count + foreign.count * MemoryLayout<Range<Int>>.size }

    /// The ranges that the template wrote itself.
    var written: [Range<Int>] {
        var found: [Range<Int>] = []
        var start = 0
        for range in foreign {
            if start < range.lowerBound { found.append(start..<range.lowerBound) }
            start = range.upperBound
        }
        if start < count { found.append(start..<count) }
        return found
    }

    mutating func append(_ other: TemplateText) {
        let offset = count
        string += other.string
        for range in other.foreign { mark(range.lowerBound + offset..<range.upperBound + offset) }
    }

    mutating func append(_ text: String, foreign isForeign: Bool = false) {
        let start = count
        string += text
        if isForeign { mark(start..<count) }
    }

    mutating func append(_ scalar: Unicode.Scalar, foreign isForeign: Bool) {
        let start = count
        string.unicodeScalars.append(scalar)
        if isForeign { mark(start..<count) }
    }

    private mutating func mark(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        if let last = foreign.last, last.upperBound == range.lowerBound {
            foreign[foreign.count - 1] = last.lowerBound..<range.upperBound
        } else {
            foreign.append(range)
        }
    }

    /// Bytes of the text; the range begins and ends between characters.
    func slice(_ range: Range<Int>) -> TemplateText {
        if range == 0..<count { return self }
        let utf8 = string.utf8
        let start = utf8.index(utf8.startIndex, offsetBy: range.lowerBound)
        let end = utf8.index(start, offsetBy: range.count)
        var found = TemplateText(String(string[start..<end]))
        found.isMarkup = isMarkup
        for at in firstForeign(endingAfter: range.lowerBound)..<foreign.count {
            guard foreign[at].lowerBound < range.upperBound else { break }
            let part = foreign[at].clamped(to: range)
            found.mark(part.lowerBound - range.lowerBound..<part.upperBound - range.lowerBound)
        }
        return found
    }

    private func firstForeign(endingAfter place: Int) -> Int {
        var (low, high) = (0, foreign.count)
        while low < high {
            let middle = (low + high) / 2
            if foreign[middle].upperBound > place { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// The characters, each with whether it came from the request.
    func forEachScalar(_ body: (Unicode.Scalar, _ isForeign: Bool) throws -> Void) rethrows {
        var at = 0
        var next = 0
        for scalar in string.unicodeScalars {
            while next < foreign.count, foreign[next].upperBound <= at { next += 1 }
            try body(scalar, next < foreign.count && foreign[next].lowerBound <= at)
            at += UTF8.width(scalar)
        }
    }

    /// Each character made into others, which come from where it came from.
    func mapScalars(_ change: (Unicode.Scalar) throws -> String) rethrows -> TemplateText {
        var out = TemplateText()
        out.isMarkup = isMarkup
        try forEachScalar { scalar, isForeign in out.append(try change(scalar), foreign: isForeign) }
        return out
    }

    /// The characters as texts.
    var characters: [TemplateText] {
        var found: [TemplateText] = []
        forEachScalar { scalar, isForeign in
            var text = TemplateText(String(scalar), foreign: isForeign)
            text.isMarkup = isMarkup
            found.append(text)
        }
        return found
    }

    /// `&`, `<`, `>` and quotes as HTML writes them.
    var escaped: TemplateText {
        var out =
            isMarkup
            ? self
            : mapScalars { scalar in
                switch scalar {
                case "&": "&amp;"
                case "<": "&lt;"
                case ">": "&gt;"
                case "'": "&#39;"
                case "\"": "&#34;"
                default: String(scalar)
                }
            }
        out.isMarkup = true
        return out
    }
}

extension TemplateText: Hashable {
    /// By the characters alone, as Python compares; canonical equivalence, which Swift's strings look at, is none here.
    static func == (a: TemplateText, b: TemplateText) -> Bool {
        a.count == b.count && a.string.utf8.elementsEqual(b.string.utf8)
    }

    func hash(into hasher: inout Hasher) {
        var string = string
        string.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }

    static func + (a: TemplateText, b: TemplateText) -> TemplateText {
        var out = a
        out.append(b)
        return out
    }
}

extension TemplateText: ExpressibleByStringLiteral {
    init(stringLiteral value: String) { self.init(value) }
}

extension Unicode.Scalar {
    /// `str.isspace()`.
    var isPythonSpace: Bool { properties.isWhitespace || (0x1c...0x1f).contains(value) }

    /// `\w` in Python's patterns.
    var isPythonWord: Bool { self == "_" || JinjaStrings.isLetter(properties) || properties.numericType != nil }
}
