/// Reading scalars out of bytes that are UTF-8. Bytes that are not give U+FFFD and never lead outside.
enum UTF8Text {
    /// Bytes of the character that begins with `lead`.
    @inline(__always)
    static func length(_ lead: UInt8) -> Int { lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4 }

    /// The scalar at `at`, and where the next one begins. `at` must be in `bytes`.
    @inline(__always)
    static func scalar(_ bytes: [UInt8], _ at: Int) -> (scalar: Unicode.Scalar, next: Int) {
        let lead = bytes[at]
        if lead < 0x80 { return (Unicode.Scalar(lead), at + 1) }
        if lead < 0xc0 { return ("\u{fffd}", at + 1) }
        let end = min(at + length(lead), bytes.count)
        var value = UInt32(lead) & (lead < 0xe0 ? 0x1f : lead < 0xf0 ? 0x0f : 0x07)
        for place in at + 1..<end { value = value << 6 | UInt32(bytes[place] & 0x3f) }
        return (Unicode.Scalar(value) ?? "\u{fffd}", end)
    }

    /// Appends a scalar as UTF-8.
    @inline(__always)
    static func append(_ scalar: Unicode.Scalar, to bytes: inout [UInt8]) {
        if scalar.isASCII {
            bytes.append(UInt8(truncatingIfNeeded: scalar.value))
        } else if let encoded = Unicode.UTF8.encode(scalar) {
            bytes.append(contentsOf: encoded)
        }
    }

    /// The first place from `at` on, up to `end`, that begins a character.
    @inline(__always)
    static func boundary<Bytes: RandomAccessCollection>(_ bytes: Bytes, from at: Int, end: Int) -> Int
    where Bytes.Element == UInt8, Bytes.Index == Int {
        var at = at
        while at < end, bytes[at] & 0xc0 == 0x80 { at += 1 }
        return at
    }
}
