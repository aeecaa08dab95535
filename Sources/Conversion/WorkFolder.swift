import Foundation
import Glibc
import ModelFormat

/// A folder for what is made only to be measured, among the system's temporary files. It goes with this object; one of a
/// process that was killed goes with the next that is made.
public final class WorkFolder {
    private let path: String
    private let lock: Int32
    private var made = 0

    private static let prefix = "ebb-work-"
    /// Held as long as the folder is in use.
    private static let lockName = "lock"

    /// - Throws: ``FormatError``.
    init() throws {
        Self.removeLeftovers()
        var folder = ""
        // A folder that somebody took for a leftover, before it had its lock, is made anew.
        (lock, _) = try Leftovers.create {
            folder = Self.parent + "/" + Self.prefix + UUID().uuidString
            mkdir(folder, 0o700)
            return folder + "/" + Self.lockName
        }
        path = folder
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
        close(lock)
    }

    /// A name that nothing has yet.
    func file(_ ending: String = ".ebb") -> String {
        made += 1
        return "\(path)/\(made)\(ending)"
    }

    private static var parent: String { FileManager.default.temporaryDirectory.path }

    /// Removes the folders of this user's processes that are no more.
    public static func removeLeftovers() {
        for name in (try? FolderEntries.names(of: parent)) ?? [] where name.hasPrefix(prefix) {
            let path = parent + "/" + name
            var info = stat()
            // Others may write here too: only a folder of our own, which nobody else can change.
            guard lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFDIR, info.st_uid == geteuid(),
                let fd = Leftovers.lockIfDead(path + "/" + lockName)
            else { continue }
            try? FileManager.default.removeItem(atPath: path)
            close(fd)
        }
    }
}
