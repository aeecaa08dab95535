import Glibc
import ModelFormat

/// A file that a command is going to write: looked at before the work, so that an hour of it is not lost at its end.
enum OutputFile {
    /// - Parameter replaces: whether a file of that name may be written over.
    /// - Throws: ``CommandError`` that says what to do.
    static func demand(_ path: String, replaces: Bool) throws {
        if !replaces, access(path, F_OK) == 0 {
            throw CommandError(.badInput, "\(path) exists already; --force replaces it")
        }
        let slash = path.lastIndex(of: "/")
        let folder = slash.map { path[..<$0].isEmpty ? "/" : String(path[..<$0]) } ?? "."
        var info = stat()
        guard stat(folder, &info) == 0, info.st_mode & S_IFMT == S_IFDIR else {
            throw CommandError(.badInput, "cannot write \(path): there is no folder \(folder)")
        }
        guard access(folder, W_OK | X_OK) == 0 else {
            throw CommandError(.notPermitted, "cannot write \(path): the folder \(folder) is not writable")
        }
    }
}
