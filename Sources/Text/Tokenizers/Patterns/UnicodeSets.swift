import Synchronization

/// The sets that patterns name: general categories, white space, scripts; from Swift's own Unicode tables, each made once.
enum UnicodeSets {
    /// `\s`.
    static let whitespace = ScalarSet(
        (0...0xffff as ClosedRange<UInt32>).lazy.compactMap(Unicode.Scalar.init).filter(\.properties.isWhitespace))

    static let alphabetic = ScalarSet(
        (0...0x3ffff as ClosedRange<UInt32>).lazy.compactMap(Unicode.Scalar.init).filter(\.properties.isAlphabetic))

    /// A general category by its short name (`Lu`), or all that begin with its letter (`L`); nil for an unknown name.
    static func category(_ name: String) -> ScalarSet? {
        guard !name.isEmpty else { return nil }
        let names = name == "L&" || name == "LC" ? ["Lu", "Ll", "Lt"] : [name]
        let found = byCategory.filter { category, _ in names.contains { category.hasPrefix($0) } }
        guard !found.isEmpty else { return nil }
        return ScalarSet(found.values.flatMap(\.ranges))
    }

    private static let byCategory: [String: ScalarSet] = {
        var ranges: [String: [ClosedRange<UInt32>]] = [:]
        func add(_ range: ClosedRange<UInt32>, _ name: String) { ranges[name, default: []].append(range) }
        for plane in UInt32(0)...16 {
            let scalars = plane << 16...(plane << 16 | 0xffff)
            // The planes without characters, and those of private use, which end with two noncharacters.
            if (4...13).contains(plane) {
                add(scalars, "Cn")
                continue
            }
            if plane >= 15 {
                add(scalars.lowerBound...scalars.upperBound - 2, "Co")
                add(scalars.upperBound - 1...scalars.upperBound, "Cn")
                continue
            }
            var (start, category) = (scalars.lowerBound, Self.category(scalars.lowerBound))
            for value in scalars.dropFirst() {
                let own = Self.category(value)
                guard own != category else { continue }
                add(start...value - 1, shortName(category))
                (start, category) = (value, own)
            }
            add(start...scalars.upperBound, shortName(category))
        }
        return ranges.mapValues { ScalarSet($0) }
    }()

    private static func category(_ value: UInt32) -> Unicode.GeneralCategory {
        Unicode.Scalar(value)?.properties.generalCategory ?? .surrogate
    }

    private static func shortName(_ category: Unicode.GeneralCategory) -> String {
        switch category {
        case .uppercaseLetter: "Lu"
        case .lowercaseLetter: "Ll"
        case .titlecaseLetter: "Lt"
        case .modifierLetter: "Lm"
        case .otherLetter: "Lo"
        case .nonspacingMark: "Mn"
        case .spacingMark: "Mc"
        case .enclosingMark: "Me"
        case .decimalNumber: "Nd"
        case .letterNumber: "Nl"
        case .otherNumber: "No"
        case .connectorPunctuation: "Pc"
        case .dashPunctuation: "Pd"
        case .openPunctuation: "Ps"
        case .closePunctuation: "Pe"
        case .initialPunctuation: "Pi"
        case .finalPunctuation: "Pf"
        case .otherPunctuation: "Po"
        case .mathSymbol: "Sm"
        case .currencySymbol: "Sc"
        case .modifierSymbol: "Sk"
        case .otherSymbol: "So"
        case .spaceSeparator: "Zs"
        case .lineSeparator: "Zl"
        case .paragraphSeparator: "Zp"
        case .control: "Cc"
        case .format: "Cf"
        case .surrogate: "Cs"
        case .privateUse: "Co"
        case .unassigned: "Cn"
        @unknown default: "Cn"
        }
    }

    private static let scripts = Mutex<[String: ScalarSet]>([:])

    /// A script by its name (`Han`); nil for an unknown one. The standard library gives scripts to regular expressions only,
    /// so one is asked about every assigned scalar, the first time.
    static func script(_ name: String) -> ScalarSet? {
        if let known = scripts.withLock({ $0[name] }) { return known }
        guard name.count <= 32, name.allSatisfy({ $0.isASCII && ($0.isLetter || $0 == "_") }),
            let pattern = try? Regex("\\p{Script=\(name)}", as: Substring.self)
        else { return nil }
        var text = ""
        var found: [Unicode.Scalar] = []
        for range in category("C")?.inverted.ranges ?? [] {
            for scalar in range.lazy.compactMap(Unicode.Scalar.init) {
                text.unicodeScalars.removeAll(keepingCapacity: true)
                text.unicodeScalars.append(scalar)
                if (try? pattern.wholeMatch(in: text)) != nil { found.append(scalar) }
            }
        }
        let set = ScalarSet(found)
        guard !set.isEmpty else { return nil }
        scripts.withLock { $0[name] = set }
        return set
    }
}
