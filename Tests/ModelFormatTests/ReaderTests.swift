import Foundation
import ModelFormat
import Testing
import TestKit

@Suite("What is not read is called by its name")
struct ReaderTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func refusal(_ name: String, _ bytes: [UInt8]) throws -> String {
        let path = try folder.write(name, bytes)
        return #expect(throws: FormatError.self) { try GGUFFile(path: path) }?.description ?? ""
    }

    @Test("A big-endian GGUF", arguments: [UInt32(2), 3])
    func bigEndian(version: UInt32) throws {
        var builder = GGUFBuilder([])
        builder.version = version.byteSwapped
        #expect(try refusal("big.gguf", builder.build()).contains("big-endian"))
    }

    @Test("One of several parts, with the others' names and what to do")
    func parts() throws {
        let first = TinyLlama.gguf {
            $0.set("split.no", .uint32(0))
            $0.set("split.count", .uint32(2))
        }
        let text = try refusal("m-00001-of-00002.gguf", first)
        #expect(text.contains("part 1 of 2") && text.contains("00002-of-00002") && text.contains("--merge"), "\(text)")
        let last = GGUFBuilder([("split.no", .uint32(6)), ("split.count", .int32(7))])
        #expect(try refusal("m-00007-of-00007.gguf", last.build()).contains("00001-of-00007"))
        let hostile = GGUFBuilder([("split.no", .uint32(.max)), ("split.count", .uint32(.max))])
        #expect(try refusal("hostile.gguf", hostile.build()).contains("part"))
        // A model in one part is whole.
        let whole = try folder.write("whole.gguf", TinyLlama.gguf { $0.set("split.count", .uint32(1)) })
        _ = try GGUFFile(path: whole)
    }

    @Test("A folder whose weights come in parts, or as pickles")
    func sharded() throws {
        let bert = try TinyBert().folder()
        unlink(bert.file("model.safetensors"))
        try bert.write("pytorch_model.bin", [1])
        #expect(
            #expect(throws: FormatError.self) { try ModelSources.open(bert.path) }?.description
                .contains("pytorch_model.bin") == true)
        try bert.write("model.safetensors.index.json", Array("{}".utf8))
        #expect(
            #expect(throws: FormatError.self) { try ModelSources.open(bert.path) }?.description
                .contains("model.safetensors.index.json") == true)
    }

    @Test("A matrix of one channel, which would take sixteen times its size")
    func oneChannel() throws {
        let values = [Float](repeating: 1, count: 1 << 18)
        let tensors = (0..<4).map { GGUFBuilder.Tensor.f32("w\($0)", [1 << 18, 1], values) }
        let path = try folder.write("in.gguf", GGUFBuilder([], tensors).build())
        let error = #expect(throws: FormatError.self) {
            try ModelImport(GGUFSource(try GGUFFile(path: path))).write(to: folder.file("out.ebb"))
        }
        #expect(error?.description.contains("sixteens") == true, "\(String(describing: error))")
        #expect(folder.names == ["in.gguf"])
    }
}
