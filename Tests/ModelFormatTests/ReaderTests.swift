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
