import CEbbSystem
import Glibc

/// What is wrong with a model file, in a sentence that says which file and where.
public struct FormatError: Error, CustomStringConvertible, Sendable {
    public let description: String
    /// The error number where the operating system refused something; nil where the file itself is wrong.
    public let systemCode: Int32?

    public init(_ description: String) { self.init(description, systemCode: nil) }

    private init(_ description: String, systemCode: Int32?) {
        (self.description, self.systemCode) = (description, systemCode)
    }

    /// An error of the operating system: `what: No space left on device`.
    public static func system(_ what: String, code: Int32 = errno) -> FormatError {
        var buffer = [CChar](repeating: 0, count: 256)
        let text = String(cString: ebb_error_text(code, &buffer, Int32(buffer.count)))
        return FormatError("\(what): \(text)", systemCode: code)
    }
}
