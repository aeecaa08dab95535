import ArgumentParser
import EbbProtocol
import Glibc

extension EbbCtl {
    /// Ends with an error: one sentence on standard error, and the code of its class.
    static func end(with error: any Error) -> Never {
        if let status = ExitStatus(of: error) {
            let sentence = error is CancellationError ? "cancelled" : "\(error)"
            if status != .outputClosed { report("Error: \(sentence.printable)") }
            Glibc.exit(status.rawValue)
        }
        // The argument parser's: help and versions are no errors and go to standard output.
        let text = fullMessage(for: error)
        let code = exitCode(for: error)
        guard code.isSuccess else {
            if !text.isEmpty { report(text) }
            Glibc.exit(code.rawValue)
        }
        do {
            try Terminal.out(text + "\n")
            try Terminal.close()
        } catch { end(with: error) }
        Glibc.exit(code.rawValue)
    }

    /// On a line of its own: what progress has been shown is taken away.
    private static func report(_ text: String) {
        if isatty(STDERR_FILENO) != 0 { Terminal.control("\r\u{1b}[K") }
        Terminal.error(text)
    }
}
