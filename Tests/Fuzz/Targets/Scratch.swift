import Foundation
import Glibc
import Synchronization

/// A folder in memory where targets lay what they read as files.
enum Scratch {
    static let folder: String = {
        let base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : NSTemporaryDirectory()
        let path = "\(base)/ebb-fuzz-\(getpid())"
        mkdir(path, 0o700)
        atexit { try? FileManager.default.removeItem(atPath: Scratch.folder) }
        return path
    }()

    /// Only one input is read at a time, also where tests run beside each other.
    static let lock = Mutex(())

    /// Writes a file (its folders too) and returns its path.
    static func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let path = "\(folder)/\(name)"
        if let slash = name.lastIndex(of: "/") {
            var made = folder
            for part in name[..<slash].split(separator: "/") {
                made += "/" + part
                mkdir(made, 0o700)
            }
        }
        let fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard fd >= 0, Glibc.write(fd, bytes, bytes.count) == bytes.count else {
            throw CocoaError(.fileWriteUnknown)
        }
        close(fd)
        return path
    }

    static func read(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }
}
