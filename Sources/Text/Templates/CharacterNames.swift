/// Characters by their names in Unicode, as Python's `\N{…}` finds them.
enum CharacterNames {
    /// Bytes of a name at most.
    static let longest = 128

    /// Names and aliases in any case; those of Han characters and Hangul syllables, which are computed, in capitals.
    static func character(_ name: String) -> Unicode.Scalar? {
        guard name.utf8.count <= longest, name.utf8.allSatisfy({ $0 < 0x80 }) else { return nil }
        if name.hasPrefix(ideograph) { return ideograph(String(name.dropFirst(ideograph.count))) }
        let upper = name.uppercased()
        if let found = aliases[upper] ?? variationSelector(upper) { return found }
        let wanted = hash(upper)
        var (low, high) = (0, table.count)
        while low < high {
            let middle = (low + high) / 2
            if table[middle].hash < wanted { low = middle + 1 } else { high = middle }
        }
        for entry in table[low...].prefix(while: { $0.hash == wanted }) {
            let isSyllable = (0xac00...0xd7a3).contains(entry.scalar.value)
            let properties = entry.scalar.properties
            if properties.name == (isSyllable ? name : upper) || properties.nameAlias == upper { return entry.scalar }
        }
        return nil
    }

    // MARK: Computed names

    private static let ideograph = "CJK UNIFIED IDEOGRAPH-"

    private static func ideograph(_ digits: String) -> Unicode.Scalar? {
        guard (4...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ "0123456789ABCDEF".utf8.contains($0) }),
            let scalar = UInt32(digits, radix: 16).flatMap(Unicode.Scalar.init),
            scalar.properties.name?.hasPrefix(ideograph) == true
        else { return nil }
        return scalar
    }

    private static func variationSelector(_ name: String) -> Unicode.Scalar? {
        guard name.hasPrefix("VS"), !name.hasPrefix("VS0"), let number = UInt32(name.dropFirst(2)),
            name.utf8.dropFirst(2).first != UInt8(ascii: "+"), (1...256).contains(number)
        else { return nil }
        return Unicode.Scalar(number <= 16 ? 0xfe00 + number - 1 : 0xe0100 + number - 17)
    }

    // MARK: The table

    private struct Entry {
        let hash: UInt32
        let scalar: Unicode.Scalar
    }

    /// Hashes of all names that are not computed, in order. It is made where a template first names a character: the
    /// library only says the name of a character.
    private static let table: [Entry] = {
        var found: [Entry] = []
        for value in UInt32(0)...0x10ffff {
            guard let scalar = Unicode.Scalar(value), let name = scalar.properties.name, !name.hasPrefix(ideograph),
                !name.hasPrefix("TANGUT IDEOGRAPH-")
            else { continue }
            found.append(Entry(hash: hash(name), scalar: scalar))
            if let alias = scalar.properties.nameAlias { found.append(Entry(hash: hash(alias), scalar: scalar)) }
        }
        return found.sorted { $0.hash < $1.hash }
    }()

    /// FNV-1a.
    private static func hash(_ name: String) -> UInt32 {
        name.utf8.reduce(0x811c_9dc5) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
    }
}
