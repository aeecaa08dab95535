import Engine
import Glibc
import ModelFormat

/// Conversations of a parked model on disk: for each whose it is, its tokens, and its part of the KV cache.
///
/// Numbers in the machine's order: magic (8 bytes), model (8), file length (8), conversations (8); for each uid (4),
/// marks (4; bit 0: shared), tokens (8), steady tokens (8), the tokens (4 each), and what ``KVSequence/write(_:)`` hands
/// over; at the end the XXH64 of all that (8). The file is written under another name and renamed when it is whole.
package struct ParkingFile {
    /// What is kept of a conversation.
    package struct Conversation {
        package var tokens: [Int32]
        package var sequence: KVSequence
        package var uid: UInt32
        package var isShared: Bool
        package var steadyTokens: Int

        package init(tokens: [Int32], sequence: KVSequence, uid: UInt32, isShared: Bool, steadyTokens: Int) {
            (self.tokens, self.sequence) = (tokens, sequence)
            (self.uid, self.isShared, self.steadyTokens) = (uid, isShared, steadyTokens)
        }
    }

    private let folder: String
    private let name: String
    /// Names the model's file and its cache's layout: what another model has written is not read.
    private let model: UInt64

    private static let magic: UInt64 = 0x3230_4b52_4150_4245  // "EBPARK02"
    private static let headBytes = 32
    private static let conversationBytes = 24
    /// No more than the prefix cache keeps.
    private static let mostConversations = 64

    init(in folder: String, of decoder: DecoderModel, named name: String) {
        // The first bytes of the file hold a checksum of its metadata, and of the table with each tensor's.
        let head = UnsafeRawBufferPointer(rebasing: decoder.file.bytes.prefix(64))
        self.init(in: folder, named: name, fileHead: head, layout: decoder.makeSequence().layout)
    }

    package init(in folder: String, named name: String, fileHead: UnsafeRawBufferPointer, layout: [UInt32]) {
        self.folder = folder
        self.name = Self.fileName(name)
        var sum = Checksum()
        sum.update(fileHead)
        layout.withUnsafeBytes { sum.update($0) }
        model = sum.value
    }

    package var path: String { "\(folder)/\(name)" }

    /// A model's name, whatever it is, as one part of a path: other bytes than those of plain names are written as `%2F`,
    /// and what is long is cut.
    package static func fileName(_ model: String) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in model.utf8.prefix(192) {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                bytes.append(byte)
            case UInt8(ascii: ".") where !bytes.isEmpty: bytes.append(byte)
            default: bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        guard bytes.count > 128 else { return String(decoding: bytes, as: UTF8.self) + ".kv" }
        let sum = Array(model.utf8).withUnsafeBytes { Checksum.of($0) }
        return String(decoding: bytes.prefix(100), as: UTF8.self) + "-" + String(sum, radix: 16) + ".kv"
    }

    package func remove() { unlink(path) }

    // MARK: Writing

    /// - Throws: ``FormatError`` where it cannot be written (a full disk); nothing is left behind then.
    package func write(_ conversations: [Conversation]) throws {
        let folder = try openFolder()
        defer { close(folder) }
        let partial = ".\(name).\(getpid())"
        unlinkat(folder, partial, 0)
        let fd = openat(folder, partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard fd >= 0 else { throw FormatError.system("cannot create \(path)") }
        do {
            defer { close(fd) }
            try write(conversations, to: fd)
            guard renameat(folder, partial, folder, name) == 0 else {
                throw FormatError.system("cannot create \(path)")
            }
        } catch {
            unlinkat(folder, partial, 0)
            throw error
        }
    }

    package func write(_ conversations: [Conversation], to fd: Int32) throws {
        var length = Self.headBytes + 8
        for one in conversations {
            length += Self.conversationBytes + 4 * one.tokens.count
            one.sequence.write { length += $0.count }
        }
        var sum = Checksum()
        func put(_ bytes: UnsafeRawBufferPointer) throws {
            sum.update(bytes)
            try putAll(bytes, fd)
        }
        func put(_ numbers: UInt64...) throws { try numbers.withUnsafeBytes(put) }
        try put(Self.magic, model, UInt64(length), UInt64(conversations.count))
        for one in conversations {
            let marks: UInt64 = one.isShared ? 1 : 0
            try put(
                UInt64(one.uid) | marks << 32, UInt64(one.tokens.count), UInt64(clamping: one.steadyTokens))
            try one.tokens.withUnsafeBytes(put)
            try one.sequence.write(put)
        }
        try withUnsafeBytes(of: sum.value) { try putAll($0, fd) }
    }

    private func putAll(_ bytes: UnsafeRawBufferPointer, _ fd: Int32) throws {
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(fd, bytes.baseAddress.map { $0 + done }, bytes.count - done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw FormatError.system("cannot write \(path)") }
            done += count
        }
    }

    /// The folder, made where it is missing, with those above it.
    private func openFolder() throws -> Int32 {
        var made = folder.hasPrefix("/") ? "" : "."
        for part in folder.split(separator: "/") {
            made += "/" + part
            guard mkdir(made, 0o700) == 0 || errno == EEXIST else { throw FormatError.system("cannot create \(made)") }
        }
        let fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard fd >= 0 else { throw FormatError.system("cannot open \(folder)") }
        var info = stat()
        guard fstat(fd, &info) == 0, info.st_uid == geteuid(), info.st_mode & 0o022 == 0 else {
            close(fd)
            throw FormatError("\(folder) is not the daemon's alone: conversations are not kept there")
        }
        return fd
    }

    // MARK: Reading

    /// Takes the conversations out of the file, which is no more afterwards.
    /// - Parameter sequence: makes an empty sequence of the model.
    /// - Throws: ``FormatError`` or `EngineError` for a file that this model did not write, or that is not whole; then
    ///   nothing of it is in use.
    package func take(_ sequence: () -> KVSequence) throws -> [Conversation] {
        let fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard fd >= 0 else { return [] }
        defer {
            close(fd)
            unlink(path)
        }
        return try read(fd, sequence)
    }

    func read(_ fd: Int32, _ sequence: () -> KVSequence) throws -> [Conversation] {
        let damaged = FormatError("\(path) is damaged")
        var info = stat()
        guard fstat(fd, &info) == 0, info.st_mode & S_IFMT == S_IFREG, info.st_uid == geteuid() else { throw damaged }
        var (sum, left) = (Checksum(), Int(info.st_size) - 8)
        func fill(_ bytes: UnsafeMutableRawBufferPointer) throws {
            guard bytes.count <= left else { throw damaged }
            left -= bytes.count
            try fillAll(bytes, fd)
            sum.update(UnsafeRawBufferPointer(bytes))
        }
        func number() throws -> UInt64 {
            var number: UInt64 = 0
            try withUnsafeMutableBytes(of: &number, fill)
            return number
        }
        guard try number() == Self.magic, try number() == model else {
            throw FormatError("\(path) holds no parked conversations of this model")
        }
        guard try number() == UInt64(clamping: info.st_size) else { throw damaged }
        let count = try number()
        guard count <= Self.mostConversations else { throw damaged }
        let conversations = try (0..<count).map { _ in
            let sequence = sequence()
            let (owner, tokenCount, steady) = (try number(), try number(), try number())
            guard tokenCount <= UInt64(min(sequence.limit, left / 4)), steady <= tokenCount else { throw damaged }
            var tokens = [Int32](repeating: 0, count: Int(tokenCount))
            try tokens.withUnsafeMutableBytes(fill)
            try sequence.read(fill)
            guard sequence.count == tokens.count else { throw damaged }
            return Conversation(
                tokens: tokens, sequence: sequence, uid: UInt32(truncatingIfNeeded: owner),
                isShared: owner >> 32 & 1 != 0, steadyTokens: Int(steady))
        }
        var expected: UInt64 = 0
        try withUnsafeMutableBytes(of: &expected) { try fillAll($0, fd) }
        guard left == 0, sum.value == expected else { throw damaged }
        return conversations
    }

    private func fillAll(_ bytes: UnsafeMutableRawBufferPointer, _ fd: Int32) throws {
        var done = 0
        while done < bytes.count {
            let count = Glibc.read(fd, bytes.baseAddress.map { $0 + done }, bytes.count - done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw FormatError("\(path) is truncated") }
            done += count
        }
    }
}

extension PrefixCache.Entry {
    init(_ parked: ParkingFile.Conversation) {
        self.init(
            tokens: parked.tokens, sequence: parked.sequence, uid: parked.uid, isShared: parked.isShared,
            steadyTokens: parked.steadyTokens)
    }

    var parked: ParkingFile.Conversation {
        ParkingFile.Conversation(
            tokens: tokens, sequence: sequence, uid: uid, isShared: isShared, steadyTokens: steadyTokens)
    }
}
