import ArgumentParser
import Conversion
import EbbClient
import EbbProtocol
import Engine
import Glibc
import ModelFormat
import Quantization
import Text

/// How ebbctl ends: scripts read the number, people the sentence on standard error.
enum ExitStatus: Int32, CaseIterable {
    case done = 0
    case failed = 1
    case unreachable = 3
    case unknownModel = 4
    case notPermitted = 5
    case overloaded = 6
    case unusable = 7
    case cancelled = 8
    case badInput = 9
    case deadline = 10
    /// As sysexits.h has it.
    case usage = 64
    /// 128 and the number of SIGPIPE.
    case outputClosed = 141

    /// For the help.
    var meaning: String {
        switch self {
        case .done: "done"
        case .failed: "failed otherwise: the output cannot be written, an error inside ebbd"
        case .unreachable: "ebbd cannot be reached, went away, or speaks another version"
        case .unknownModel: "there is no model of that name"
        case .notPermitted: "not permitted"
        case .overloaded: "too busy, no memory, or ending: the sentence says when to try again"
        case .unusable: "a model or another file cannot be used: damaged, or of an unknown kind"
        case .cancelled: "the request was cancelled"
        case .badInput: "the input is wrong: a line, a missing file, a text that is too long"
        case .deadline: "the deadline passed"
        case .usage: "the command line is wrong"
        case .outputClosed: "the reader of the output went away (as after SIGPIPE)"
        }
    }

    /// The whole table, for `ebbctl --help`.
    static var table: String {
        allCases.map { "  \(Human.padded("\($0.rawValue)", 3, left: true))  \($0.meaning)" }.joined(separator: "\n")
    }
}

extension ExitStatus {
    /// The class of an error; nil for those of the argument parser, which has its own.
    init?(of error: any Error) {
        switch error {
        case let error as CommandError: self = error.status
        case let error as OutputError: self = error.isClosed ? .outputClosed : .failed
        case let error as ClientError: self.init(error.kind)
        case is InputError: self = .badInput
        case let error as FormatError: self = error.systemCode.map(ExitStatus.init(systemCode:)) ?? .unusable
        case is TextError: self = .unusable
        case let error as EngineError: self.init(error.kind)
        case is SchemeError: self = .badInput
        case is CancellationError: self = .cancelled
        default: return nil
        }
    }

    private init(_ kind: ClientError.Kind) {
        switch kind {
        case .unreachable, .protocolViolation: self = .unreachable
        case .refused(let code): self.init(code)
        }
    }

    private init(_ code: EbbCode) {
        switch code {
        case .unsupportedVersion: self = .unreachable
        case .unknownModel: self = .unknownModel
        case .permissionDenied: self = .notPermitted
        case .overloaded, .outOfMemory, .shuttingDown, .slowReader: self = .overloaded
        case .modelUnusable: self = .unusable
        case .cancelled: self = .cancelled
        case .badRequest, .contextFull, .frameTooLarge: self = .badInput
        case .deadlineExceeded: self = .deadline
        case .internal, .unspecified, .UNRECOGNIZED: self = .failed
        }
    }

    private init(_ kind: EngineError.Kind) {
        switch kind {
        case .invalid, .contextFull: self = .badInput
        case .kvFull, .resources: self = .overloaded
        case .numeric, .unusable: self = .unusable
        }
    }

    private init(systemCode: Int32) {
        switch systemCode {
        case EACCES, EPERM, EROFS: self = .notPermitted
        case ENOMEM, EMFILE, ENFILE, EAGAIN: self = .overloaded
        case ENOENT, ENOTDIR, EISDIR, ENAMETOOLONG, ELOOP: self = .badInput
        default: self = .failed
        }
    }
}

/// An error of ebbctl's own, with its class.
struct CommandError: Error, CustomStringConvertible {
    let status: ExitStatus
    let description: String

    init(_ status: ExitStatus, _ description: String) { (self.status, self.description) = (status, description) }
}
