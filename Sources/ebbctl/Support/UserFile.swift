import Glibc
import ModelFormat

/// Texts that people name on the command line: a file, a pipe (`<(command)`), or `-` for standard input.
enum UserFile {
    /// - Parameter limit: bytes at most.
    /// - Throws: an error that names the file: it cannot be read, is too long, or is not UTF-8.
    static func text(_ path: String, limit: Int) throws -> String {
        let descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
        guard descriptor >= 0 else { throw FormatError.system("cannot open \(path)") }
        defer { if path != "-" { close(descriptor) } }
        var bytes = try read(descriptor, name(path), limit)
        if bytes.starts(with: SmallFile.byteOrderMark) { bytes.removeFirst(SmallFile.byteOrderMark.count) }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw CommandError(.badInput, "\(name(path)): not UTF-8")
        }
        return text
    }

    /// What errors call it.
    static func name(_ path: String) -> String { path == "-" ? "standard input" : path }

    private static func read(_ descriptor: Int32, _ name: String, _ limit: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = Glibc.read(descriptor, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FormatError.system("cannot read \(name)") }
            if count == 0 { return bytes }
            bytes += piece[..<count]
            guard bytes.count <= limit else {
                throw CommandError(.badInput, "\(name): longer than \(limit >> 10) KiB, which is all that is possible")
            }
        }
    }
}
