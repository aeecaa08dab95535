import EbbProtocol
import Glibc

/// Standard output does not take what is written.
struct OutputError: Error, CustomStringConvertible {
    let code: Int32

    /// The reader has gone: that is how `| head` ends, and nothing to complain of.
    var isClosed: Bool { code == EPIPE }
    var description: String { "cannot write to standard output: \(String(cString: strerror(code)))" }
}

/// All that ebbctl writes to its standard streams.
enum Terminal {
    /// Text for people. Line feeds and tabs are kept, other controls are written out: a name cannot move the cursor.
    static func out(_ text: String) throws { try writeAll(text.printableLines) }

    /// What a model has written: as it is into a file or a pipe; a terminal gets no controls.
    static func generated(_ text: String) throws { try writeAll(isTerminal ? text.printableLines : text) }

    /// Bytes of a format that is escaped already, or of the program's own: JSON, control sequences.
    static func raw(_ text: String) throws { try writeAll(text) }

    /// Text on standard error, which nobody may be reading: that is no failure.
    static func error(_ text: String, newline: Bool = true) {
        _ = write(STDERR_FILENO, text.printableLines + (newline ? "\n" : ""))
    }

    /// Text on standard error that matters less, faint where it is a terminal that knows how; whoever interrupts it leaves
    /// the terminal as it was.
    static func dimmed(_ text: String) {
        let text = text.printableLines
        _ = write(STDERR_FILENO, dims ? "\u{1b}[2m\(text)\u{1b}[0m" : text)
    }

    /// https://no-color.org
    private static let dims =
        isatty(STDERR_FILENO) != 0 && (getenv("NO_COLOR").map { $0.pointee == 0 } ?? true)
        && getenv("TERM").map { String(cString: $0) } != "dumb"

    /// The program's own control sequences on standard error.
    static func control(_ text: String) { _ = write(STDERR_FILENO, text) }

    static let isTerminal = isatty(STDOUT_FILENO) != 0

    /// The end of the output: some file systems report only here that a write has failed.
    static func close() throws {
        guard Glibc.close(STDOUT_FILENO) != 0 else { return }
        guard errno == EBADF || errno == EINTR else { throw OutputError(code: errno) }
    }

    private static func writeAll(_ text: String) throws {
        if let code = write(STDOUT_FILENO, text) { throw OutputError(code: code) }
    }

    /// nil, or the number of the error.
    private static func write(_ fd: Int32, _ text: String) -> Int32? {
        var text = text
        return text.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)[...]
            while !rest.isEmpty {
                let piece = UnsafeRawBufferPointer(rebasing: rest)
                let count = Glibc.write(fd, piece.baseAddress, piece.count)
                if count >= 0 {
                    rest = rest.dropFirst(count)
                } else if errno == EAGAIN {
                    // Another program may have made a shared terminal non-blocking.
                    var polled = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
                    _ = poll(&polled, 1, -1)
                } else if errno != EINTR {
                    return errno
                }
            }
            return nil
        }
    }
}

enum StandardStreams {
    /// Makes writing to a closed pipe, or beyond a limit on files, an error instead of a signal, and keeps a model's file
    /// from becoming standard output where the program was started without one.
    static func prepare() {
        signal(SIGPIPE, SIG_IGN)
        signal(SIGXFSZ, SIG_IGN)
        // Opened the wrong way round, so that using them fails.
        for (fd, way) in [(STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY)]
        where fcntl(fd, F_GETFD) == -1 {
            _ = open("/dev/null", way)
        }
    }
}
