import Engine
import Foundation
import Service
import TestKit
import Testing

@Suite("Parked conversations")
struct ParkingFileTests {
    private let folder: TemporaryFolder
    private let pool: KVPool
    private let layout: [UInt32]

    init() throws {
        folder = try TemporaryFolder()
        pool = try KVPool(kvHeads: 1, headDim: 32, capacity: 64, kernels: try Kernels.fromEnvironment())
        layout = KVSequence(pool: pool, rings: [0, 0], limit: 128).layout
    }

    private func sequence() -> KVSequence { KVSequence(pool: pool, rings: [0, 0], limit: 128) }

    private func file(_ name: String = "m", head: [UInt8] = [1, 2, 3], layout: [UInt32]? = nil) -> ParkingFile {
        head.withUnsafeBytes {
            ParkingFile(in: folder.file("state/parked"), named: name, fileHead: $0, layout: layout ?? self.layout)
        }
    }

    private func conversations() throws -> [ParkingFile.Conversation] {
        try [40, 70].enumerated().map { number, count in
            let sequence = sequence()
            try sequence.reserve(count)
            sequence.advance(count)
            if number == 1 { _ = sequence.compact(most: 1) }
            return ParkingFile.Conversation(
                tokens: (0..<Int32(count)).map { $0 * 3 }, sequence: sequence, uid: 1000 + UInt32(number),
                isShared: number == 1, steadyTokens: number * 32)
        }
    }

    private func bytes(of sequence: KVSequence) -> [UInt8] {
        var bytes: [UInt8] = []
        sequence.write { bytes += $0 }
        return bytes
    }

    @Test("What was written comes back once, with whose it is; the folder is made, and is its user's alone")
    func roundTrip() throws {
        let written = try conversations()
        try file().write(written)
        var info = stat()
        #expect(stat(folder.file("state/parked"), &info) == 0 && info.st_mode & 0o777 == 0o700)
        #expect(stat(file().path, &info) == 0 && info.st_mode & 0o777 == 0o600)
        let found = try file().take(sequence)
        #expect(found.map(\.uid) == [1000, 1001] && found.map(\.isShared) == [false, true])
        #expect(found.map(\.steadyTokens) == [0, 32] && found.map(\.tokens) == written.map(\.tokens))
        for (a, b) in zip(found, written) { #expect(bytes(of: a.sequence) == bytes(of: b.sequence)) }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.file("state/parked")).isEmpty)
        #expect(try file().take(sequence).isEmpty)
    }

    @Test("Another model's file, or the same model's with another cache, is not read")
    func foreign() throws {
        for other in [file(head: [1, 2, 4]), file(layout: layout + [7])] {
            try other.write(try conversations())
            #expect(throws: (any Error).self) { try file().take(sequence) }
            #expect(pool.usedBlocks == 0 && access(file().path, F_OK) != 0)
        }
    }

    @Test("A file with any byte changed, cut short or longer gives nothing, and leaves nothing in the cache")
    func damaged() throws {
        try file().write(try conversations())
        let whole = try Array(Data(contentsOf: URL(fileURLWithPath: file().path)))
        var random = TestRandom(seed: 7)
        var cases = [0, 7, 8, 31, 40, whole.count / 2, whole.count - 1].map { Array(whole[..<$0]) } + [whole + [0]]
        for at in Array(0..<200) + (0..<200).map({ _ in Int.random(in: whole.indices, using: &random) }) {
            var damaged = whole
            damaged[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            cases.append(damaged)
        }
        for damaged in cases {
            try Data(damaged).write(to: URL(fileURLWithPath: file().path))
            do {
                _ = try file().take(sequence)
                Issue.record("a damaged file was read")
            } catch {}
            #expect(pool.usedBlocks == 0)
        }
    }

    @Test("On a full disk writing fails, by name")
    func full() throws {
        let fd = open("/dev/full", O_WRONLY)
        defer { close(fd) }
        do {
            try file().write(try conversations(), to: fd)
            Issue.record("a full disk has taken it")
        } catch { #expect("\(error)".contains("No space left"), "\(error)") }
    }

    @Test("No link is followed, neither to the file nor to the folder, and a folder of others is not used")
    func links() throws {
        try file().write(try conversations())
        try folder.write("precious", [1, 2, 3])
        unlink(file().path)
        symlink(folder.file("precious"), file().path)
        #expect(try file().take(sequence).isEmpty)
        try file().write(try conversations())
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder.file("precious"))) == Data([1, 2, 3]))
        file().remove()
        #expect(chmod(folder.file("state/parked"), 0o777) == 0)
        #expect(throws: (any Error).self) { try file().write(try conversations()) }
        rmdir(folder.file("state/parked"))
        symlink(folder.path, folder.file("state/parked"))
        #expect(throws: (any Error).self) { try file().write(try conversations()) }
    }

    @Test("A FIFO in the file's place keeps nobody waiting")
    func fifo() throws {
        try file().write([])
        unlink(file().path)
        try #require(mkfifo(file().path, 0o600) == 0)
        #expect(throws: (any Error).self) { try file().take(sequence) }
    }

    @Test(
        "A model's name is one part of the path, whatever it is",
        arguments: [
            ("smollm2", "smollm2.kv"), ("a.b-c_D", "a.b-c_D.kv"), ("../x", "%2E.%2Fx.kv"), ("..", "%2E..kv"),
            ("a\nb", "a%0Ab.kv"), ("ü", "%C3%BC.kv"),
        ])
    func names(name: String, expected: String) { #expect(ParkingFile.fileName(name) == expected) }

    @Test("Long names are cut, and stay different")
    func longNames() {
        let names = (0..<3).map { ParkingFile.fileName(String(repeating: "é", count: 300) + "\($0)") }
        #expect(Set(names).count == 3 && names.allSatisfy { $0.utf8.count < 200 })
    }
}
