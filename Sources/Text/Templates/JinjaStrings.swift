/// Python's methods of strings.
enum JinjaStrings {
    /// The methods and their parameters.
    static let signatures: [String: [String]] = [
        "capitalize": [], "casefold": [], "center": ["width!", "fillchar"], "count": ["sub!", "start", "end"],
        "endswith": ["suffix!", "start", "end"], "expandtabs": ["tabsize"], "find": ["sub!", "start", "end"],
        "index": ["sub!", "start", "end"], "isalnum": [], "isalpha": [], "isascii": [], "isdecimal": [], "isdigit": [],
        "isidentifier": [], "islower": [], "isnumeric": [], "isprintable": [], "isspace": [], "istitle": [],
        "isupper": [], "join": ["iterable!"], "ljust": ["width!", "fillchar"], "lower": [], "lstrip": ["chars"],
        "partition": ["sep!"], "removeprefix": ["prefix!"], "removesuffix": ["suffix!"],
        "replace": ["old!", "new!", "count"], "rfind": ["sub!", "start", "end"], "rindex": ["sub!", "start", "end"],
        "rjust": ["width!", "fillchar"], "rpartition": ["sep!"], "rsplit": ["sep", "maxsplit"], "rstrip": ["chars"],
        "split": ["sep", "maxsplit"], "splitlines": ["keepends"], "startswith": ["prefix!", "start", "end"],
        "strip": ["chars"], "swapcase": [], "title": [], "upper": [], "zfill": ["width!"],
    ]

    /// What else Python has: refused when it is called.
    static let others: Set<String> = ["encode", "maketrans", "translate"]

    static func call(
        _ text: TemplateText, _ name: String, _ call: JinjaCall, _ budget: JinjaBudget
    ) throws -> JinjaValue {
        if name == "format" { return .string(try JinjaFormat(budget).braces(text, call)) }
        if name == "format_map" {
            guard case .dict(let dict)? = call.positional.first else {
                throw TextError("format_map() takes a dictionary")
            }
            return .string(try JinjaFormat(budget).braces(text, JinjaCall(named: try names(dict))))
        }
        guard let signature = signatures[name] else { throw TextError("the method \"\(name)\" is not supported") }
        let arguments = try call.bound(to: signature, name)
        // Cases and white space cost more than copying.
        try budget.text(text)
        try budget.spend(4 * text.count)
        return try changed(text, name, arguments, budget) ?? JinjaStringSearch.call(text, name, arguments, budget)
            ?? .bool(has(text.string, name))
    }

    private static func names(_ dict: JinjaDict) throws -> [(name: String, value: JinjaValue)] {
        try dict.members.map { key, value in
            guard case .string(let name) = key.value else { throw TextError("format_map() takes names") }
            return (name.string, value)
        }
    }

    private static func changed(
        _ text: TemplateText, _ name: String, _ arguments: JinjaBound, _ budget: JinjaBudget
    ) throws -> JinjaValue? {
        switch name {
        case "strip", "lstrip", "rstrip":
            return .string(
                strip(text, try arguments.text(0)?.string, left: name != "rstrip", right: name != "lstrip"))
        case "upper": return .string(text.mapScalars { $0.properties.uppercaseMapping })
        case "lower": return .string(lower(text))
        case "casefold": return .string(text.mapScalars { $0 == "ß" ? "ss" : $0.properties.lowercaseMapping })
        case "swapcase": return .string(text.mapScalars(swapped))
        case "title": return .string(title(text))
        case "capitalize": return .string(capitalize(text))
        case "center", "ljust", "rjust": return .string(try aligned(text, name, arguments, budget))
        case "zfill": return .string(try zeroFilled(text, try arguments.integer(0) ?? 0, budget))
        case "expandtabs": return .string(try withoutTabs(text, try arguments.integer(0) ?? 8, budget))
        case "removeprefix":
            let prefix = try arguments.need(0)
            guard text.string.utf8.starts(with: prefix.string.utf8) else { return .string(text) }
            return .string(text.slice(prefix.count..<text.count))
        case "removesuffix":
            let suffix = try arguments.need(0)
            guard text.string.utf8.reversed().starts(with: suffix.string.utf8.reversed()) else { return .string(text) }
            return .string(text.slice(0..<text.count - suffix.count))
        default: return nil
        }
    }

    // MARK: Ends

    static func strip(_ text: TemplateText, _ characters: String?, left: Bool, right: Bool) -> TemplateText {
        let set = characters.map { Set($0.unicodeScalars) }
        func goes(_ scalar: Unicode.Scalar) -> Bool { set?.contains(scalar) ?? scalar.isPythonSpace }
        let scalars = text.string.unicodeScalars
        var (start, end) = (0, text.count)
        if left { for scalar in scalars { if goes(scalar) { start += UTF8.width(scalar) } else { break } } }
        if right, start < end {
            for scalar in scalars.reversed() { if goes(scalar) { end -= UTF8.width(scalar) } else { break } }
        }
        return text.slice(start..<end)
    }

    // MARK: Cases

    /// Lower case; a sigma that ends a word has a form of its own.
    static func lower(_ text: TemplateText) -> TemplateText {
        guard text.string.unicodeScalars.contains("Σ") else {
            return text.mapScalars { $0.properties.lowercaseMapping }
        }
        let scalars = Array(text.string.unicodeScalars)
        func isCased(_ scalar: Unicode.Scalar?) -> Bool { scalar?.properties.isCased ?? false }
        // For each place the next scalar that case looks at.
        var next = [Bool](repeating: false, count: scalars.count)
        var after = false
        for at in scalars.indices.reversed() {
            next[at] = after
            if !scalars[at].properties.isCaseIgnorable { after = isCased(scalars[at]) }
        }
        var at = 0
        var before = false
        return text.mapScalars { scalar in
            defer {
                if !scalar.properties.isCaseIgnorable { before = isCased(scalar) }
                at += 1
            }
            return scalar == "Σ" && before && !next[at] ? "ς" : scalar.properties.lowercaseMapping
        }
    }

    private static func swapped(_ scalar: Unicode.Scalar) -> String {
        let properties = scalar.properties
        return properties.isUppercase
            ? properties.lowercaseMapping : properties.isLowercase ? properties.uppercaseMapping : String(scalar)
    }

    static func capitalize(_ text: TemplateText) -> TemplateText {
        guard let first = text.string.unicodeScalars.first else { return text }
        let width = UTF8.width(first)
        let start = text.slice(0..<width).mapScalars { $0.properties.titlecaseMapping }
        var out = start + lower(text.slice(width..<text.count))
        out.isMarkup = text.isMarkup
        return out
    }

    private static func title(_ text: TemplateText) -> TemplateText {
        var inWord = false
        return text.mapScalars { scalar in
            defer { inWord = scalar.properties.isCased }
            return inWord ? scalar.properties.lowercaseMapping : scalar.properties.titlecaseMapping
        }
    }

    // MARK: Widths

    static func length(_ text: TemplateText) -> Int { text.string.unicodeScalars.count }

    private static func aligned(
        _ text: TemplateText, _ name: String, _ arguments: JinjaBound, _ budget: JinjaBudget
    ) throws -> TemplateText {
        let fill = try arguments.text(1) ?? " "
        guard length(fill) == 1 else { throw TextError("\(name)() fills with one character") }
        let alignment: Character = name == "ljust" ? "<" : name == "rjust" ? ">" : "c"
        return try padded(text, to: try arguments.integer(0) ?? 0, fill, alignment, budget)
    }

    /// - Parameter alignment: where the text goes: `<`, `>`, `^`, or `c` for the middle as `str.center` sees it.
    static func padded(
        _ text: TemplateText, to width: Int, _ fill: TemplateText, _ alignment: Character, _ budget: JinjaBudget
    ) throws -> TemplateText {
        let (missing, overflow) = width.subtractingReportingOverflow(length(text))
        guard missing > 0 else { return text }
        guard !overflow, missing <= JinjaBudget.textLimit / 4 else {
            throw TextError("the chat template writes too much text")
        }
        try budget.text(text.cost + 4 * missing)
        let left =
            switch alignment {
            case "<": 0
            case ">": missing
            case "c": missing / 2 + (missing & width & 1)
            default: missing / 2
            }
        func space(_ count: Int) -> TemplateText {
            TemplateText(String(repeating: fill.string, count: count), foreign: !fill.foreign.isEmpty)
        }
        var out = space(left) + text + space(missing - left)
        out.isMarkup = text.isMarkup
        return out
    }

    private static func zeroFilled(_ text: TemplateText, _ width: Int, _ budget: JinjaBudget) throws -> TemplateText {
        guard let sign = text.string.utf8.first, sign == 0x2b || sign == 0x2d else {
            return try padded(text, to: width, "0", ">", budget)
        }
        let rest = text.slice(1..<text.count)
        return text.slice(0..<1) + (try padded(rest, to: max(1, width) - 1, "0", ">", budget))
    }

    private static func withoutTabs(_ text: TemplateText, _ size: Int, _ budget: JinjaBudget) throws -> TemplateText {
        let size = min(max(size, 0), 1 << 10)
        let tabs = text.string.utf8.count { $0 == 0x09 }
        try budget.text(text.cost + tabs * size)
        var column = 0
        return text.mapScalars { scalar in
            if scalar == "\t" {
                let width = size == 0 ? 0 : size - column % size
                column += width
                return String(repeating: " ", count: width)
            }
            column = scalar == "\n" || scalar == "\r" ? 0 : column + 1
            return String(scalar)
        }
    }

    // MARK: Questions

    private static func has(_ text: String, _ name: String) -> Bool {
        let scalars = text.unicodeScalars
        func all(_ holds: (Unicode.Scalar.Properties) -> Bool) -> Bool {
            !scalars.isEmpty && scalars.allSatisfy { holds($0.properties) }
        }
        switch name {
        case "isascii": return scalars.allSatisfy(\.isASCII)
        case "isprintable": return scalars.allSatisfy(\.isPrintable)
        case "isspace": return !scalars.isEmpty && scalars.allSatisfy(\.isPythonSpace)
        case "isalpha": return all(isLetter)
        case "isdecimal": return all { $0.numericType == .decimal }
        case "isdigit": return all { $0.numericType == .decimal || $0.numericType == .digit }
        case "isnumeric": return all { $0.numericType != nil }
        case "isalnum": return all { isLetter($0) || $0.numericType != nil }
        case "isidentifier":
            return scalars.first.map { $0 == "_" || $0.properties.isXIDStart } == true
                && scalars.allSatisfy(\.properties.isXIDContinue)
        case "islower": return scalars.contains { $0.properties.isLowercase } && !scalars.contains(where: isUpper)
        case "isupper":
            return scalars.contains { $0.properties.isUppercase }
                && !scalars.contains { $0.properties.isLowercase || $0.properties.generalCategory == .titlecaseLetter }
        default: return isTitle(scalars)
        }
    }

    static func isLetter(_ properties: Unicode.Scalar.Properties) -> Bool {
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
        default: false
        }
    }

    private static func isUpper(_ scalar: Unicode.Scalar) -> Bool {
        scalar.properties.isUppercase || scalar.properties.generalCategory == .titlecaseLetter
    }

    private static func isTitle(_ scalars: String.UnicodeScalarView) -> Bool {
        var (inWord, found) = (false, false)
        for scalar in scalars {
            if isUpper(scalar) {
                if inWord { return false }
                (inWord, found) = (true, true)
            } else if scalar.properties.isLowercase {
                if !inWord { return false }
                found = true
            } else {
                inWord = false
            }
        }
        return found
    }
}
