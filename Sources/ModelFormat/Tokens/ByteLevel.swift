/// GPT-2's byte-level alphabet: each byte has a printable character, and vocabularies are written in those
/// (Radford et al. 2019, `bytes_to_unicode`).
enum ByteLevel {
    /// Printable bytes stand for themselves; the others get the characters from U+0100 on, in order.
    static let byteOfScalar: [UInt32: UInt8] = {
        var map: [UInt32: UInt8] = [:]
        var next: UInt32 = 256
        for byte in UInt32(0)...255 {
            switch byte {
            case 33...126, 161...172, 174...255: map[byte] = UInt8(byte)
            default:
                map[next] = UInt8(byte)
                next += 1
            }
        }
        return map
    }()

    private static let byteOfLow: [Int16] = (UInt32(0)..<324).map { byteOfScalar[$0].map(Int16.init) ?? -1 }

    /// Appends the bytes that a vocabulary text stands for; characters outside the alphabet stand for their UTF-8.
    /// - Returns: whether the text was all of the alphabet.
    @discardableResult
    static func spell(_ text: UnsafeRawBufferPointer, into bytes: inout [UInt8]) -> Bool {
        var at = 0
        var isAlphabet = true
        while at < text.count {
            let lead = text[at]
            // The whole alphabet is below U+0144: one or two bytes of UTF-8.
            let two = lead & 0xe0 == 0xc0 && at + 1 < text.count
            let scalar = two ? Int(lead & 0x1f) << 6 | Int(text[at + 1] & 0x3f) : Int(lead)
            if two || lead < 0x80, scalar < byteOfLow.count, byteOfLow[scalar] >= 0 {
                bytes.append(UInt8(byteOfLow[scalar]))
            } else {
                isAlphabet = false
                bytes.append(lead)
                if two { bytes.append(text[at + 1]) }
            }
            at += two ? 2 : 1
        }
        return isAlphabet
    }
}
