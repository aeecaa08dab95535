/// Reads little-endian values from bytes of unknown origin; every read is checked against the end.
struct ByteCursor {
    let bytes: UnsafeRawBufferPointer
    let what: String
    private(set) var offset: Int

    init(_ bytes: UnsafeRawBufferPointer, at offset: Int = 0, what: String) {
        self.bytes = bytes
        self.offset = offset
        self.what = what
    }

    var remaining: Int { bytes.count - offset }

    mutating func read<T: FixedWidthInteger>(_ type: T.Type) throws -> T {
        let size = MemoryLayout<T>.size
        guard remaining >= size else { throw truncated(size) }
        defer { offset += size }
        return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }

    /// The next `count` bytes, without a copy.
    mutating func take(_ count: UInt64) throws -> UnsafeRawBufferPointer {
        guard count <= UInt64(remaining) else { throw truncated(count) }
        defer { offset += Int(count) }
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + Int(count)])
    }

    mutating func readString() throws -> String {
        // Copied before it is looked at: the bytes may lie in a file that somebody is writing to.
        let raw = Array(try take(try read(UInt64.self)))
        guard let text = String(validating: raw, as: UTF8.self) else {
            throw FormatError("\(what): a name at byte \(offset - raw.count) is not UTF-8")
        }
        return text
    }

    private func truncated(_ wanted: some BinaryInteger) -> FormatError {
        FormatError("\(what) ends too early: \(wanted) bytes expected at byte \(offset), \(remaining) are left")
    }
}
