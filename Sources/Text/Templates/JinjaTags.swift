/// The filter `striptags`: a text without comments and tags, spaces made one, references to characters resolved.
enum JinjaTags {
    static func strip(_ text: TemplateText, _ budget: JinjaBudget) throws -> TemplateText {
        try budget.text(4 * text.cost)
        try budget.spend(32 * text.count)
        let plain = without("<", ">", without("<!--", "-->", text))
        var joined = TemplateText()
        for word in try JinjaStringSearch.split(plain, nil, -1, fromEnd: false, budget) {
            if !joined.isEmpty { joined.append(" ") }
            joined.append(word)
        }
        return resolved(joined)
    }

    /// Without what stands between these marks, and them; a mark that is not closed stays.
    private static func without(_ open: String, _ close: String, _ text: TemplateText) -> TemplateText {
        let bytes = Array(text.string.utf8)
        let (opening, closing) = (TextSearch(open), TextSearch(close))
        var out = TemplateText()
        var at = 0
        while let start = opening.first(in: bytes, from: at), let end = closing.first(in: bytes, from: start.lowerBound)
        {
            out.append(text.slice(at..<start.lowerBound))
            at = end.upperBound
        }
        out.append(text.slice(at..<bytes.count))
        return out
    }

    // MARK: References

    private static let names = ["amp": "&", "lt": "<", "gt": ">", "quot": "\"", "apos": "'", "nbsp": "\u{a0}"]

    /// Characters for references by number, and by the names that escaping makes.
    private static func resolved(_ text: TemplateText) -> TemplateText {
        let bytes = Array(text.string.utf8)
        var out = TemplateText()
        var (start, at) = (0, 0)
        while at < bytes.count {
            // The longest that is known is shorter.
            let window = bytes[at..<min(bytes.count, at + 16)]
            guard bytes[at] == UInt8(ascii: "&"), let end = window.firstIndex(of: UInt8(ascii: ";")),
                let character = character(String(decoding: bytes[at + 1..<end], as: UTF8.self))
            else {
                at += 1
                continue
            }
            out.append(text.slice(start..<at))
            out.append(character, foreign: !text.slice(at..<end + 1).foreign.isEmpty)
            at = end + 1
            start = at
        }
        out.append(text.slice(start..<bytes.count))
        return out
    }

    private static func character(_ reference: String) -> String? {
        guard reference.hasPrefix("#") else { return names[reference] }
        let digits = reference.dropFirst()
        let isHex = digits.first == "x" || digits.first == "X"
        let number = isHex ? digits.dropFirst() : digits
        guard number.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
            let code = UInt32(number, radix: isHex ? 16 : 10)
        else { return nil }
        return Unicode.Scalar(code).map { $0 == "\0" ? "\u{fffd}" : String($0) } ?? "\u{fffd}"
    }
}
