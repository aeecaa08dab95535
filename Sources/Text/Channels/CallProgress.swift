/// A call as far as it is written, and where in its JSON the next byte stands.
struct CallProgress: Sendable {
    /// What was written since the last call was complete.
    var text: [UInt8] = []
    /// The name that a header gave.
    var name: String?
    /// It has no mark, and ends with its value.
    var isBare = false
    /// The last byte of a string was a backslash.
    var isEscaped = false
    private var braces = 0
    private var brackets = 0
    /// Where the object begins.
    private var start = 0

    /// Braces are open: quotes begin strings.
    var isWithinObject: Bool { braces > 0 }

    /// No array is open that may have more calls.
    var isOutsideOfArrays: Bool { brackets == 0 }

    /// Follows a byte outside of strings.
    /// - Returns: whether it is the end of a value of the outermost array or of none: an object, or the array itself.
    mutating func follow(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "{"):
            if braces == 0 { start = max(0, text.count - 1) }
            braces += 1
        case UInt8(ascii: "}") where braces > 0:
            braces -= 1
            return braces == 0
        case UInt8(ascii: "[") where braces == 0: brackets += 1
        case UInt8(ascii: "]") where braces == 0 && brackets > 0:
            brackets -= 1
            return brackets == 0
        default: break
        }
        return false
    }

    /// Takes the object that became complete, and what stands before it; nil at the end of an array.
    mutating func takeObject() -> (before: [UInt8], object: [UInt8])? {
        guard text.last == UInt8(ascii: "}"), start < text.count else { return nil }
        defer {
            text = []
            start = 0
        }
        return (Array(text[..<start]), Array(text[start...]))
    }
}
