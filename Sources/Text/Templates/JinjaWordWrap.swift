/// The filter `wordwrap`: a text in lines of a width, broken where Python's `textwrap` breaks them.
struct JinjaWordWrap {
    private let scalars: [Unicode.Scalar]
    private let width: Int
    private let breaksWords: Bool
    private let breaksAtHyphens: Bool

    static func apply(
        _ text: TemplateText, _ arguments: JinjaBound, _ budget: JinjaBudget
    ) throws -> TemplateText {
        let width = arguments[0] == nil ? 79 : try arguments.integer(0) ?? 0
        let separator = try arguments.text(2) ?? "\n"
        try budget.text(text)
        try budget.spend(4 * text.count)
        var out = TemplateText()
        out.isMarkup = separator.isMarkup
        var isFirst = true
        for item in try JinjaStringSearch.lines(text, keepsEnds: false, budget) {
            guard case .string(let line) = item else { continue }
            guard width > 0 else { throw TextError("wordwrap() takes a width above 0") }
            // A place is looked at a few times: where a piece ends, where it is cut, whether it is all space.
            try budget.spend(16 * line.count)
            let wrap = JinjaWordWrap(line, width, arguments)
            for var part in try wrap.lines(of: line, budget) {
                part.isMarkup = false
                if out.isMarkup { part = part.escaped }
                let cost = part.cost + separator.cost
                try budget.text(cost)
                guard out.cost + cost <= JinjaBudget.textLimit else {
                    throw TextError("the chat template writes too much text")
                }
                if !isFirst { out.append(separator) }
                isFirst = false
                out.append(part)
            }
        }
        return out
    }

    private init(_ line: TemplateText, _ width: Int, _ arguments: JinjaBound) {
        scalars = Array(line.string.unicodeScalars)
        // No line is longer than all, and sums of places stay small.
        self.width = min(width, scalars.count + 1)
        breaksWords = arguments[1]?.isTrue ?? true
        breaksAtHyphens = arguments[3]?.isTrue ?? true
    }

    /// The lines of a line; an empty one is one.
    private func lines(of line: TemplateText, _ budget: JinjaBudget) throws -> [TemplateText] {
        var found: [TemplateText] = []
        var (place, byte) = (0, 0)
        func advance(to end: Int) {
            while place < end {
                byte += UTF8.width(scalars[place])
                place += 1
            }
        }
        for range in try ranges(budget) {
            advance(to: range.lowerBound)
            let start = byte
            advance(to: range.upperBound)
            found.append(line.slice(start..<byte))
        }
        return found.isEmpty ? [""] : found
    }

    // MARK: Lines

    /// A word, a part of one up to a hyphen, or the space between two.
    private struct Piece {
        var range: Range<Int>
        /// Behind its last character that is no space.
        let solidEnd: Int

        var isSpace: Bool { solidEnd <= range.lowerBound }
    }

    private func ranges(_ budget: JinjaBudget) throws -> [Range<Int>] {
        var found: [Range<Int>] = []
        var next = piece(from: 0)
        while !next.range.isEmpty {
            if next.isSpace, !found.isEmpty { next = piece(from: next.range.upperBound) }
            let start = next.range.lowerBound
            var last = start..<start
            while !next.range.isEmpty, next.range.upperBound - start <= width {
                last = next.range
                next = piece(from: last.upperBound)
            }
            if next.range.count > width {
                if breaksWords {
                    let cut = cut(next.range, room: width - (last.upperBound - start))
                    last = next.range.lowerBound..<cut
                    next.range = cut..<next.range.upperBound
                } else if last.isEmpty {
                    last = next.range
                    next = piece(from: last.upperBound)
                }
            }
            // Where a word was cut to nothing, Python takes that for the space at the end, and leaves the space.
            let end = scalars[last].allSatisfy(\.isPythonSpace) ? last.lowerBound : last.upperBound
            guard start < end else { continue }
            try budget.elements(1)
            found.append(start..<end)
        }
        return found
    }

    /// Where a piece that is too long for any line is broken: behind the last hyphen that has room.
    private func cut(_ piece: Range<Int>, room: Int) -> Int {
        let end = piece.lowerBound + room
        guard breaksAtHyphens, let hyphen = scalars[piece.lowerBound..<end].lastIndex(of: "-"),
            scalars[piece.lowerBound..<hyphen].contains(where: { $0 != "-" })
        else { return end }
        return hyphen + 1
    }

    // MARK: Pieces

    /// The piece that begins here, an empty one at the end.
    private func piece(from start: Int) -> Piece {
        let end = pieceEnd(from: start)
        let solid = scalars[start..<end].lastIndex { !$0.isPythonSpace }
        return Piece(range: start..<end, solidEnd: solid.map { $0 + 1 } ?? start)
    }

    private func pieceEnd(from start: Int) -> Int {
        guard start < scalars.count else { return start }
        if isGap(start) { return scalars[start...].indices.first { !isGap($0) } ?? scalars.count }
        if breaksAtHyphens, let end = dashEnd(from: start) { return end }
        var at = start + 1
        while at < scalars.count, !isGap(at) {
            if breaksAtHyphens, scalars[at] == "-" {
                if isHyphen(at) { return at + 1 }
                if dashEnd(from: at) != nil { return at }
            }
            at += 1
        }
        return at
    }

    /// The spaces that `textwrap` breaks at: those of ASCII.
    private func isGap(_ at: Int) -> Bool { scalars[at] == " " || (0x09...0x0d).contains(scalars[at].value) }

    private func isLetter(_ at: Int) -> Bool {
        guard scalars.indices.contains(at) else { return false }
        return scalars[at].isPythonWord && scalars[at].properties.numericType != .decimal
    }

    private func isLetter(_ at: Int, orBehindHyphen step: Int) -> Bool {
        isLetter(at) || scalars.indices.contains(at) && scalars[at] == "-" && isLetter(at + step)
    }

    /// A hyphen within a word, two letters on each side; there may be one hyphen between those.
    private func isHyphen(_ at: Int) -> Bool {
        isLetter(at - 1) && isLetter(at - 2, orBehindHyphen: -1) && isLetter(at + 1)
            && isLetter(at + 2, orBehindHyphen: 1)
    }

    /// The end of dashes, two or more, that stand between words; nil where there are none.
    private func dashEnd(from start: Int) -> Int? {
        guard start > 0, scalars[start] == "-",
            scalars[start - 1].isPythonWord || "!\"'&.,?".unicodeScalars.contains(scalars[start - 1])
        else { return nil }
        let end = scalars[start...].firstIndex { $0 != "-" } ?? scalars.count
        return end - start >= 2 && end < scalars.count && scalars[end].isPythonWord ? end : nil
    }
}
