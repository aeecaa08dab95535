import ModelFormat
import Testing
import TestKit

@Suite("Metadata")
struct MetadataTests {
    @Test("Every kind of value survives the import")
    func valuesSurvive() throws {
        let folder = try TemporaryFolder()
        let builder = GGUFBuilder([
            ("a", .uint32(7)), ("b", .int32(-7)), ("c", .float32(0.5)), ("d", .bool(true)), ("e", .string("häß")),
            ("f", .strings(["x", "", "ÿ"])), ("g", .int32s([-1, 2])), ("h", .float32s([1.5])),
        ])
        let source = try folder.write("in.gguf", builder.build())
        try ModelImport(GGUFSource(try GGUFFile(path: source))).write(to: folder.file("out.ebb"))
        let metadata = try EbbFile(path: folder.file("out.ebb")).metadata
        #expect(metadata.integer("a") == 7)
        #expect(metadata.integer("b") == -7)
        #expect(metadata.float("c") == 0.5)
        #expect(metadata.bool("d") == true)
        #expect(metadata.string("e") == "häß")
        let texts = try #require(metadata.array("f"))
        #expect((0..<texts.count).map { String(decoding: texts.string($0), as: UTF8.self) } == ["x", "", "ÿ"])
        #expect(metadata.array("g")?.integers() == [-1, 2])
        #expect(metadata.array("h")?.floats() == [1.5])
        #expect(metadata.string("ebb.source.format") == "gguf")
    }

    @Test("A key that stands twice is refused")
    func doubleKey() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("in.gguf", GGUFBuilder([("a", .uint32(1)), ("a", .uint32(2))]).build())
        #expect(throws: FormatError.self) { try GGUFFile(path: path) }
    }

    @Test("GGUF version 2 is read, version 1 refused")
    func versions() throws {
        let folder = try TemporaryFolder()
        var builder = GGUFBuilder([("a", .uint32(1))])
        builder.version = 2
        #expect(try GGUFFile(path: try folder.write("v2.gguf", builder.build())).metadata.integer("a") == 1)
        builder.version = 1
        let old = try folder.write("v1.gguf", builder.build())
        #expect(throws: FormatError.self) { try GGUFFile(path: old) }
    }

    @Test(
        "The checksum is XXH64",
        arguments: [
            ("", UInt64(0xef46_db37_51d8_e999)), ("a", 0xd24e_c4f1_a98c_6e5b), ("abc", 0x44bc_2cf5_ad77_0999),
            ("Nobody inspects the spammish repetition", 0xfbce_a83c_8a37_8bf1),
        ])
    func checksum(text: String, expected: UInt64) {
        #expect(Array(text.utf8).withUnsafeBytes { Checksum.of($0) } == expected)
    }
}
