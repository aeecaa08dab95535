import Glibc
import ModelFormat

/// What is wrong with lines that someone has given, in a sentence that names the input and the line.
public struct InputError: Error, CustomStringConvertible, Sendable {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// The lines of a text, of a file or a pipe, as they come: UTF-8, ended by LF or by CRLF. A byte order mark at the start is
/// no content.
public final class TextLines {
    public struct Line: Sendable {
        /// From 1.
        public let number: Int
        public let text: String

        public var isBlank: Bool { text.allSatisfy(\.isWhitespace) }
    }

    /// Bytes of a line at most.
    public static let longestLine = 16 << 20

    /// What errors call the input.
    public let name: String
    private let descriptor: Int32
    private let isOwner: Bool
    private let limit: Int
    private var buffer: [UInt8] = []
    /// Where the next line begins, and up to where no line's end has been found.
    private var (start, searched) = (0, 0)
    private var hasEnded = false
    private var number = 0

    /// Lines of an open descriptor, which stays open.
    public init(_ descriptor: Int32, name: String, limit: Int = longestLine) {
        (self.descriptor, self.name, self.limit, isOwner) = (descriptor, name, limit, false)
    }

    /// Lines of a file, or of what else the path names.
    /// - Throws: ``FormatError`` where it cannot be opened.
    public init(path: String) throws {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FormatError.system("cannot read \(path)") }
        (self.descriptor, name, limit, isOwner) = (descriptor, path, Self.longestLine, true)
    }

    deinit { if isOwner { close(descriptor) } }

    /// The next line; nil at the end.
    /// - Throws: ``InputError`` for a line that is no UTF-8 or too long, ``FormatError`` where reading fails.
    public func next() throws -> Line? {
        while true {
            if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) { return try take(upTo: end, skip: 1) }
            searched = buffer.count
            guard searched - start <= limit else { throw wrong(number + 1, "is longer than \(limit >> 10) KiB") }
            if hasEnded { return start < buffer.count ? try take(upTo: buffer.count, skip: 0) : nil }
            try fill()
        }
    }

    /// The next line that holds more than white space; nil at the end.
    public func nextText() throws -> Line? {
        while let line = try next() { if !line.isBlank { return line } }
        return nil
    }

    /// An error about a line.
    public func wrong(_ line: Int, _ why: String) -> InputError { InputError("\(name): line \(line) \(why)") }

    private func take(upTo end: Int, skip: Int) throws -> Line? {
        number += 1
        var bytes = buffer[start..<end]
        (start, searched) = (end + skip, end + skip)
        if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
        if number == 1, bytes.starts(with: SmallFile.byteOrderMark) { bytes.removeFirst(3) }
        guard bytes.count <= limit else { throw wrong(number, "is longer than \(limit >> 10) KiB") }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw wrong(number, "is not UTF-8") }
        return Line(number: number, text: text)
    }

    private func fill() throws {
        buffer.removeFirst(start)
        (start, searched) = (0, searched - start)
        let kept = buffer.count
        let piece = 65_536
        buffer.append(contentsOf: repeatElement(0, count: piece))
        var got = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress?.advanced(by: kept), piece) }
        while got < 0, errno == EINTR || errno == EAGAIN {
            // Another program may have made a shared terminal non-blocking.
            var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            if errno == EAGAIN { _ = poll(&polled, 1, -1) }
            got = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress?.advanced(by: kept), piece) }
        }
        let code = errno
        buffer.removeLast(piece - max(0, got))
        guard got >= 0 else { throw FormatError.system("cannot read \(name)", code: code) }
        hasEnded = got == 0
    }
}
