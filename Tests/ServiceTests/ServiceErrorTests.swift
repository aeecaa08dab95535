import EbbProtocol
import Engine
import Glibc
import ModelFormat
import Service
import Testing

@Suite("Failures")
struct ServiceErrorTests {
    @Test(
        "What passes says when to try again, in its field and in its sentence", arguments: ServiceError.Passing.allCases
    )
    func passing(_ code: ServiceError.Passing) {
        let failure = ServiceError(code, "much to do", retryAfter: 2000).failure
        #expect(failure.retry && failure.retryAfterMs == 2000)
        #expect(failure.message == "much to do; try again in 2 s")
    }

    @Test("What lasts says neither", arguments: ServiceError.Lasting.allCases)
    func lasting(_ code: ServiceError.Lasting) {
        let failure = ServiceError(code, "it cannot be done").failure
        #expect(!failure.retry && failure.retryAfterMs == 0)
        #expect(failure.message == "it cannot be done")
    }

    @Test("Every code but the unspecified one belongs to a class")
    func codes() {
        let all =
            ServiceError.Passing.allCases.map { ServiceError($0, "", retryAfter: 1).code }
            + ServiceError.Lasting.allCases.map { ServiceError($0, "").code }
        #expect(Set(all) == Set(EbbCode.allCases).subtracting([.unspecified]))
    }

    @Test("An engine error keeps its meaning", arguments: EngineError.Kind.allCases)
    func engine(_ kind: EngineError.Kind) {
        let error = ServiceError.of(EngineError(kind, "so it is"))
        let expected: EbbCode =
            switch kind {
            case .invalid: .badRequest
            case .contextFull: .contextFull
            case .kvFull, .resources: .outOfMemory
            case .numeric, .unusable: .modelUnusable
            }
        #expect(error.code == expected)
        #expect((error.retryAfter != nil) == (expected == .outOfMemory))
    }

    @Test("A file that is wrong stays so; a system without descriptors may have some later")
    func files() {
        let wrong = ServiceError.of(FormatError("m.ebb is truncated"))
        #expect(wrong.code == .modelUnusable && wrong.retryAfter == nil)
        let full = ServiceError.of(FormatError.system("cannot open m.ebb", code: EMFILE))
        #expect(full.code == .overloaded && full.retryAfter != nil)
        #expect(ServiceError.of(FormatError.system("cannot open m.ebb", code: EACCES)).code == .modelUnusable)
    }

    @Test("A task that was cancelled is a request that was cancelled")
    func cancellation() { #expect(ServiceError.of(CancellationError()).code == .cancelled) }
}
