import EbbProtocol
import Engine
import ModelFormat
import Text

/// An error that a client is told of.
public struct ServiceError: Error, CustomStringConvertible, Sendable {
    public let code: EbbCode
    public let description: String
    /// When the same request may succeed, in milliseconds; nil if it never will.
    public let retryAfter: UInt32?

    public init(_ code: EbbCode, _ description: String, retryAfter: UInt32? = nil) {
        self.code = code
        self.description = description
        self.retryAfter = retryAfter
    }

    /// Any error as one for a client.
    static func of(_ error: any Error) -> ServiceError {
        switch error {
        case let error as ServiceError: error
        case let error as EngineError: ServiceError(.contextFull, error.description)
        case let error as FormatError: ServiceError(.modelUnusable, error.description)
        case let error as TextError: ServiceError(.badRequest, error.description)
        case is CancellationError: ServiceError(.cancelled, "the request was cancelled")
        default: ServiceError(.internal, "an internal error: \(error)")
        }
    }

    var failure: EbbFailure { EbbFailure(code, description, retryAfterMilliseconds: retryAfter) }

    static let shuttingDown = ServiceError(.shuttingDown, "the daemon is shutting down", retryAfter: 1000)
    static let cancelled = ServiceError(.cancelled, "the request was cancelled")
}
