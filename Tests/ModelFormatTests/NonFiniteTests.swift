import Foundation
import ModelFormat
import Testing
import TestKit

@Suite("NaN and infinity in weights")
struct NonFiniteTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func refusal(_ tensor: GGUFBuilder.Tensor) throws -> String {
        let builder = GGUFBuilder([("general.architecture", .string("test"))], [tensor])
        let source = try folder.write("in.gguf", builder.build())
        let error = #expect(throws: FormatError.self) {
            try ModelImport(GGUFSource(try GGUFFile(path: source))).write(to: folder.file("out.ebb"))
        }
        #expect(folder.names == ["in.gguf"])
        return error?.description ?? ""
    }

    @Test("In floats they are refused at import, with the tensor's name and their number")
    func floats() throws {
        var values = [Float](repeating: 1, count: 96)
        (values[3], values[40], values[95]) = (.nan, .infinity, -.infinity)
        for dimensions: [UInt64] in [[96], [32, 3]] {
            let text = try refusal(.f32("a.weight", dimensions, values))
            #expect(text.contains("a.weight") && text.contains("3 values"), "\(text)")
        }
    }

    @Test("In halves of either kind they are refused", arguments: [(UInt32(1), UInt16(0x7c00)), (30, 0xff80)])
    func halves(type: UInt32, infinity: UInt16) throws {
        var data = [UInt8](repeating: 0, count: 64 * 2)
        data[20] = UInt8(infinity & 255)
        data[21] = UInt8(infinity >> 8)
        #expect(try refusal(.init("h", type: type, dimensions: [32, 2], data: data)).contains("(1 value)"))
    }

    @Test(
        "In the scales of every quantized type they are refused",
        // Type, bytes of a block, values of a block, and where its f16 numbers stand.
        arguments: [
            (2, 18, 32, [0]), (3, 20, 32, [0, 2]), (6, 22, 32, [0]), (7, 24, 32, [0, 2]), (8, 34, 32, [0]),
            (10, 84, 256, [80, 82]), (11, 110, 256, [108]), (12, 144, 256, [0, 2]), (13, 176, 256, [0, 2]),
            (14, 210, 256, [208]),
        ] as [(UInt32, Int, Int, [Int])])
    func scales(type: UInt32, bytes: Int, values: Int, places: [Int]) throws {
        for place in places {
            // 17 rows, so that the second tile is touched; the last row has the NaN.
            var data = [UInt8](repeating: 0, count: bytes * 17)
            data[16 * bytes + place] = 0x01
            data[16 * bytes + place + 1] = 0x7e
            let tensor = GGUFBuilder.Tensor("q", type: type, dimensions: [UInt64(values), 17], data: data)
            let text = try refusal(tensor)
            #expect(text.contains("q holds") && text.contains("(1 scale)"), "\(type), \(place): \(text)")
        }
    }

    @Test("In a container whose checksums are right they are found by verify")
    func verify() throws {
        let source = try folder.write("in.gguf", TinyLlama.gguf())
        let path = folder.file("out.ebb")
        try ModelImport(GGUFSource(try GGUFFile(path: source))).write(to: path)
        try EbbFile(path: path).verify()
        try EbbBytes.write([0, 0, 0xc0, 0x7f], at: 4 * 33, of: "blk.1.ffn_up.weight", in: path)
        let error = #expect(throws: FormatError.self) { try EbbFile(path: path).verify() }
        #expect(error?.description.contains("blk.1.ffn_up.weight holds NaN") == true, "\(String(describing: error))")
    }
}
