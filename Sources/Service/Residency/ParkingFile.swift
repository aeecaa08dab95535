import Engine
import Glibc
import ModelFormat

/// Conversations of a parked model on disk: for each its tokens and its part of the KV cache.
struct ParkingFile {
    let path: String

    private static let magic: UInt64 = 0x3130_4b52_4150_4245  // "EBPARK01"
    /// No more than the prefix cache keeps.
    private static let mostEntries = 64

    func remove() { unlink(path) }

    /// - Throws: ``FormatError`` where it cannot be written (a full disk); nothing is left behind then.
    func write(_ entries: [PrefixCache.Entry]) throws {
        let folder = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
        mkdir(folder, 0o700)  // where it is there already, so much the better
        let fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard fd >= 0 else { throw FormatError.system("cannot create \(path)") }
        defer { close(fd) }
        func put(_ bytes: UnsafeRawBufferPointer) throws {
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(fd, bytes.baseAddress.map { $0 + done }, bytes.count - done)
                guard count > 0 else { throw FormatError.system("cannot write \(path)") }
                done += count
            }
        }
        do {
            try withUnsafeBytes(of: Self.magic, put)
            try withUnsafeBytes(of: UInt64(entries.count), put)
            for entry in entries {
                try withUnsafeBytes(of: UInt64(entry.tokens.count), put)
                try entry.tokens.withUnsafeBytes(put)
                try entry.sequence.write(put)
            }
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Reads what was written, and removes the file.
    /// - Parameter sequence: makes an empty sequence of the model.
    /// - Throws: ``FormatError`` or `EngineError` for a file that this model did not write.
    func take(_ sequence: () -> KVSequence) throws -> [PrefixCache.Entry] {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return [] }
        defer {
            close(fd)
            unlink(path)
        }
        func fill(_ bytes: UnsafeMutableRawBufferPointer) throws {
            var done = 0
            while done < bytes.count {
                let count = Glibc.read(fd, bytes.baseAddress.map { $0 + done }, bytes.count - done)
                guard count > 0 else { throw FormatError("\(path) is truncated") }
                done += count
            }
        }
        func word() throws -> UInt64 {
            var word: UInt64 = 0
            try withUnsafeMutableBytes(of: &word) { try fill($0) }
            return word
        }
        guard try word() == Self.magic else { throw FormatError("\(path) holds no parked conversations") }
        let count = try word()
        guard count <= Self.mostEntries else { throw FormatError("\(path) is damaged") }
        return try (0..<count).map { _ in
            let sequence = sequence()
            let tokenCount = try word()
            guard tokenCount <= UInt64(sequence.limit) else { throw FormatError("\(path) is damaged") }
            var tokens = [Int32](repeating: 0, count: Int(tokenCount))
            try tokens.withUnsafeMutableBytes { try fill($0) }
            try sequence.read(fill)
            guard sequence.count == tokens.count else { throw FormatError("\(path) is damaged") }
            return PrefixCache.Entry(tokens: tokens, sequence: sequence, uid: 0, isShared: false)
        }
    }
}
