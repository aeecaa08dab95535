import Foundation
import ModelFormat
import Quantization
import Testing
import TestKit

@Suite("Bad model files")
struct BadFileTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func openGGUF(_ bytes: [UInt8]) throws -> GGUFFile {
        try GGUFFile(path: try folder.write("in.gguf", bytes))
    }

    /// An imported tiny model.
    private func imported() throws -> [UInt8] {
        try ModelImport(GGUFSource(try openGGUF(TinyLlama.gguf()))).write(to: folder.file("model.ebb"))
        return Array(try Data(contentsOf: URL(fileURLWithPath: folder.file("model.ebb"))))
    }

    @Test("A GGUF that is cut anywhere is refused or whole, never a trap")
    func truncatedGGUF() throws {
        let whole = TinyLlama.gguf()
        for length in stride(from: 0, to: whole.count, by: 997) {
            #expect(throws: FormatError.self, "\(length) bytes") { try openGGUF(Array(whole[..<length])) }
        }
    }

    @Test("A source that is cut short while it is read is an error, and leaves no file")
    func cutWhileRead() throws {
        MappedFile.guardReads()
        let bytes = TinyLlama.gguf()
        let source = GGUFSource(try openGGUF(bytes))
        truncate(folder.file("in.gguf"), off_t(bytes.count / 2))
        let error = #expect(throws: FormatError.self) {
            try ModelImport(source).write(to: folder.file("cut.ebb"))
        }
        #expect(error?.description.contains("cut short") == true, "\(error?.description ?? "")")
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path)
        #expect(files.filter { $0.hasPrefix("cut") }.isEmpty)
    }

    @Test("A truncated GGUF names the tensor that lies beyond its end")
    func truncationNamesTheTensor() throws {
        let error = #expect(throws: FormatError.self) { try openGGUF(Array(TinyLlama.gguf().dropLast(100))) }
        #expect(error?.description.contains("blk.1.ffn_down.weight") == true)
        #expect(error?.description.contains("truncated") == true)
    }

    @Test("Tensors that lie one over the other are refused: a small file would become a large model")
    func sharedBytes() throws {
        let shared = TinyLlama.gguf { $0.tensors[3].offset = $0.tensors[4].offset ?? 0 }
        let error = #expect(throws: FormatError.self) { try openGGUF(shared) }
        #expect(error?.description.contains("lie one over the other") == true)
    }

    @Test(
        "A tensor offset or shape that overflows is refused",
        arguments: [UInt64.max, UInt64.max - 31, 1 << 62, 1 << 40])
    func overflowingOffset(offset: UInt64) throws {
        let far = TinyLlama.gguf { $0.tensors[3].offset = offset }
        #expect(throws: FormatError.self) { try openGGUF(far) }
        let huge = TinyLlama.gguf { $0.tensors[3].dimensions = [offset & ~31, 1 << 31] }
        #expect(throws: FormatError.self) { try openGGUF(huge) }
        let product = TinyLlama.gguf { $0.tensors[3].dimensions = [1 << 30, 1 << 30, 1 << 30] }
        #expect(throws: FormatError.self) { try openGGUF(product) }
    }

    @Test("An unknown tensor type is named, with those that are known")
    func unknownType() throws {
        let error = #expect(throws: FormatError.self) { try openGGUF(TinyLlama.gguf { $0.tensors[0].type = 99 }) }
        #expect(error?.description.contains("type 99") == true && error?.description.contains("Q4_K") == true)
    }

    @Test("Random changes to a GGUF never trap")
    func fuzzGGUF() throws {
        let whole = TinyLlama.gguf(layers: 1)
        var random = TestRandom(seed: 21)
        for _ in 0..<400 {
            var bytes = whole
            for _ in 0..<3 {
                bytes[Int.random(in: 0..<3000, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
            guard let file = try? openGGUF(bytes) else { continue }
            try? ModelImport(GGUFSource(file)).write(to: folder.file("fuzz.ebb"))
        }
    }

    @Test("Any flipped byte of the header, metadata or table is found when the file is opened")
    func flippedByte() throws {
        let whole = try imported()
        var random = TestRandom(seed: 22)
        let file = try EbbFile(path: folder.file("model.ebb"))
        let headBytes = try #require(file.tensors.values.map(\.offset).min())
        let end = try #require(whole[..<headBytes].lastIndex { $0 != 0 })
        for at in Array(0..<64) + (0..<200).map({ _ in Int.random(in: 64...end, using: &random) }) {
            var bytes = whole
            bytes[at] ^= 1 << UInt8.random(in: 0...7, using: &random)
            let path = try folder.write("flipped.ebb", bytes)
            #expect(throws: FormatError.self, "byte \(at)") { try EbbFile(path: path) }
        }
    }

    @Test("A flipped byte of a weight is found by verify, which names the tensor")
    func flippedWeight() throws {
        var bytes = try imported()
        bytes[bytes.count - 5] ^= 4
        let file = try EbbFile(path: try folder.write("flipped.ebb", bytes))
        let error = #expect(throws: FormatError.self) { try file.verify() }
        #expect(error?.description.contains("blk.1.ffn_down.weight") == true)
    }

    @Test("A container that says version 1 is refused where its matrices need version 2")
    func olderVersion() throws {
        let path = folder.file("table.ebb")
        for (scale, values, isNew) in [
            (ScaleKind.e8m0, ValueTable.e2m1, true), (.f16, .iq4nl, true), (.f16, .linear, false),
        ] {
            let scheme = try Scheme(bits: 4, block: 32, asymmetric: false, scale: scale, values: values)
            let shape = TensorShape(name: "w", layout: .matrix(.quantized(scheme)), n: 16, k: 32)
            let writer = try EbbWriter(destination: path, metadata: MetadataEncoder(), shapes: [shape])
            try [UInt8](repeating: 0, count: try #require(shape.byteCount)).withUnsafeBytes { try writer.append($0) }
            try writer.finish()
            try EbbBytes.set(version: 1, of: path)
            guard isNew else {
                #expect(try EbbFile(path: path).names == ["w"])
                continue
            }
            let error = #expect(throws: FormatError.self) { try EbbFile(path: path) }
            #expect(error?.description.contains("need version 2") == true)
        }
    }

    @Test("A container that is cut is refused")
    func truncatedContainer() throws {
        let whole = try imported()
        for length in [1, 63, 64, 200, whole.count / 2, whole.count - 1] {
            let path = try folder.write("cut.ebb", Array(whole[..<length]))
            #expect(throws: FormatError.self, "\(length) bytes") { try EbbFile(path: path) }
        }
    }

    @Test("A failed import leaves no file behind")
    func failedImportLeavesNothing() throws {
        // A quantized vector passes the reader, but not the import.
        let bytes = TinyLlama.gguf { builder in
            builder.tensors.append(.init("odd", type: 2, dimensions: [32], data: Array(repeating: 0, count: 18)))
        }
        let file = try openGGUF(bytes)
        #expect(throws: FormatError.self) { try ModelImport(GGUFSource(file)).write(to: folder.file("out.ebb")) }
        #expect(folder.names == ["in.gguf"])
    }

    @Test(
        "Names that could leave the folder are refused",
        arguments: ["", ".", "..", "../x", "a/b", ".hidden", "a b", "ü"])
    func badNames(name: String) {
        #expect(throws: FormatError.self) { try ModelStore(folder: "/tmp").path(of: name) }
    }
}
