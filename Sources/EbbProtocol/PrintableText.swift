extension Unicode.Scalar {
    /// Whether a terminal or a log may act on it instead of showing it: C0 and C1 controls, DEL, marks and overrides of
    /// the writing direction, line and paragraph separators, and other invisible format characters (Unicode's categories
    /// Cc, Cf, Zl and Zp). The joiners U+200C and U+200D, which words of several scripts and emoji need, are not among them.
    public var isControl: Bool {
        switch value {
        case 0x20...0x7e: false
        case 0x200c, 0x200d: false
        default:
            switch properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator: true
            default: false
            }
        }
    }

    /// `\n`, `\t`, `\u{1b}`: how ``Swift/String/printable`` writes a control.
    public var escaped: String {
        switch value {
        case 0x09: "\\t"
        case 0x0a: "\\n"
        case 0x0d: "\\r"
        default: "\\u{\(String(value, radix: 16))}"
        }
    }
}

extension String {
    /// The text on one line, with every control written out (`\n`, `\u{1b}`): for what others have named or written, so
    /// that printing it moves no cursor, changes no colour and forges no line.
    public var printable: String { unicodeScalars.contains(where: \.isControl) ? escapingControls(keeping: []) : self }

    /// The same over several lines: line feeds and tabs stay.
    public var printableLines: String { escapingControls(keeping: ["\n", "\t"]) }

    private func escapingControls(keeping kept: Set<Unicode.Scalar>) -> String {
        var out = ""
        for scalar in unicodeScalars {
            if scalar.isControl, !kept.contains(scalar) {
                out += scalar.escaped
            } else {
                out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
}
