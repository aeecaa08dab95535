import EbbProtocol

/// Why a call failed.
public struct ClientError: Error, CustomStringConvertible, Sendable {
    public enum Kind: Sendable, Equatable {
        /// No daemon could be reached, or it went away.
        case unreachable
        /// The daemon answered with an error.
        case refused(EbbCode)
        /// The daemon did not keep to the protocol.
        case protocolViolation
    }

    public let kind: Kind
    /// A sentence for a person.
    public let description: String
    /// After how long the same call may succeed; nil if it never will.
    public let retryAfter: Duration?

    init(_ kind: Kind, _ description: String, retryAfter: Duration? = nil) {
        self.kind = kind
        self.description = description
        self.retryAfter = retryAfter
    }

    init(_ failure: EbbFailure) {
        self.init(
            .refused(failure.code), failure.message,
            retryAfter: failure.retry ? .milliseconds(Int64(failure.retryAfterMs)) : nil)
    }
}
