import EbbProtocol
import Engine
import Glibc
import ModelFormat
import Text

/// An error that a client is told of. Whether the same request may succeed later is said by its code's class, and the
/// sentence says the same: a ``Passing`` one ends with when to try again, a ``Lasting`` one never says so.
public struct ServiceError: Error, CustomStringConvertible, Sendable {
    public let code: EbbCode
    public let description: String
    /// When the same request may succeed, in milliseconds; nil if it never will.
    public let retryAfter: UInt32?

    /// What the same request would meet again.
    public enum Lasting: Sendable, CaseIterable {
        case badRequest, unsupportedVersion, unknownModel, modelUnusable, permissionDenied, contextFull, cancelled
        case frameTooLarge, slowReader, `internal`, deadlineExceeded
        /// More than there could be with all else gone.
        case outOfMemory
    }

    /// What passes.
    public enum Passing: Sendable, CaseIterable {
        case overloaded, outOfMemory, shuttingDown
        /// Unloaded while it was asked for.
        case modelUnusable
    }

    public init(_ code: Lasting, _ description: String) {
        self.code = code.protocolCode
        self.description = description
        retryAfter = nil
    }

    /// - Parameters:
    ///   - description: what is the matter; when to try again is added to it.
    ///   - retryAfter: milliseconds.
    public init(_ code: Passing, _ description: String, retryAfter: UInt32) {
        self.code = code.protocolCode
        self.retryAfter = retryAfter
        let time = retryAfter % 1000 == 0 ? "\(retryAfter / 1000) s" : "\(retryAfter) ms"
        self.description = "\(description); try again in \(time)"
    }

    /// Any error as one for a client.
    package static func of(_ error: any Error) -> ServiceError {
        switch error {
        case let error as ServiceError: error
        case let error as EngineError: of(error)
        case let error as FormatError:
            if let code = error.systemCode, passingCodes.contains(code) {
                ServiceError(.overloaded, error.description, retryAfter: 1000)
            } else {
                ServiceError(.modelUnusable, error.description)
            }
        case let error as TextError: ServiceError(.badRequest, error.description)
        case is CancellationError: .cancelled
        default: ServiceError(.internal, "an internal error: \(error)")
        }
    }

    private static func of(_ error: EngineError) -> ServiceError {
        switch error.kind {
        case .invalid: ServiceError(.badRequest, error.description)
        case .contextFull: ServiceError(.contextFull, error.description)
        case .kvFull, .resources: ServiceError(.outOfMemory, error.description, retryAfter: 1000)
        case .numeric, .unusable: ServiceError(.modelUnusable, error.description)
        }
    }

    /// What the system refuses for the moment, whatever the file: descriptors and memory.
    private static let passingCodes: Set<Int32> = [EMFILE, ENFILE, ENOMEM, EAGAIN]

    package var failure: EbbFailure { EbbFailure(code, description, retryAfterMilliseconds: retryAfter) }

    /// What the governor's refusal means to a client.
    /// - Parameter isLasting: whether all else gone would not help.
    static func noMemory(_ why: String, isLasting: Bool, retryAfter: UInt32) -> ServiceError {
        isLasting ? ServiceError(.outOfMemory, why) : ServiceError(.outOfMemory, why, retryAfter: retryAfter)
    }

    package static let shuttingDown = ServiceError(.shuttingDown, "the daemon is shutting down", retryAfter: 1000)
    package static let cancelled = ServiceError(.cancelled, "the request was cancelled")
    package static let deadlineExceeded = ServiceError(
        .deadlineExceeded, "the request's deadline passed before it was answered")
}

extension ServiceError.Lasting {
    fileprivate var protocolCode: EbbCode {
        switch self {
        case .badRequest: .badRequest
        case .unsupportedVersion: .unsupportedVersion
        case .unknownModel: .unknownModel
        case .modelUnusable: .modelUnusable
        case .permissionDenied: .permissionDenied
        case .contextFull: .contextFull
        case .cancelled: .cancelled
        case .frameTooLarge: .frameTooLarge
        case .slowReader: .slowReader
        case .internal: .internal
        case .deadlineExceeded: .deadlineExceeded
        case .outOfMemory: .outOfMemory
        }
    }
}

extension ServiceError.Passing {
    fileprivate var protocolCode: EbbCode {
        switch self {
        case .overloaded: .overloaded
        case .outOfMemory: .outOfMemory
        case .shuttingDown: .shuttingDown
        case .modelUnusable: .modelUnusable
        }
    }
}
