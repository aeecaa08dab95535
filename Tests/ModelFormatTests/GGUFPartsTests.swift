import Foundation
import ModelFormat
import Testing
import TestKit

/// Models in several GGUF files, as llama.cpp's gguf-split makes them (tools/gguf-split/gguf-split.cpp): all metadata in the
/// first, and in each split.no, split.count (16 bits) and split.tensors.count.
@Suite("GGUF models in parts")
struct GGUFPartsTests {
    private let folder: TemporaryFolder
    private let whole: GGUFBuilder

    init() throws {
        folder = try TemporaryFolder()
        var whole = GGUFBuilder([])
        _ = TinyLlama.gguf { whole = $0 }
        self.whole = whole
    }

    private func name(_ number: Int, of count: Int) -> String {
        String(format: "model-%05d-of-%05d.gguf", number + 1, count)
    }

    private func part(_ number: Int, of count: Int) -> GGUFBuilder {
        let share = (whole.tensors.count + count - 1) / count
        let first = min(number * share, whole.tensors.count)
        let tensors = Array(whole.tensors[first..<min(first + share, whole.tensors.count)])
        var builder = GGUFBuilder(number == 0 ? whole.pairs : [], tensors)
        builder.set("split.no", .uint32(UInt32(number)))
        builder.set("split.count", .uint32(UInt32(count)))
        builder.set("split.tensors.count", .int32(Int32(whole.tensors.count)))
        return builder
    }

    private func write(_ count: Int, change: (Int, inout GGUFBuilder) -> Void = { _, _ in }) throws {
        for number in 0..<count {
            var builder = part(number, of: count)
            change(number, &builder)
            try folder.write(name(number, of: count), builder.build())
        }
    }

    private func refusal(_ number: Int, of count: Int) -> String {
        let error = #expect(throws: FormatError.self) { try GGUFFile(path: folder.file(name(number, of: count))) }
        return error?.description ?? ""
    }

    @Test(
        "Whichever part is named, the whole model is imported, to the same container as from one file", arguments: 2...6
    )
    func anyPart(count: Int) throws {
        func imported(_ path: String) throws -> EbbFile {
            try ModelImport(GGUFSource(try GGUFFile(path: path))).write(to: folder.file("out.ebb"))
            return try EbbFile(path: folder.file("out.ebb"))
        }
        let one = try imported(try folder.write("model.gguf", whole.build()))
        try write(count)
        for number in 0..<count {
            let parts = try imported(folder.file(name(number, of: count)))
            #expect(parts.names == one.names)
            #expect(Set(parts.metadata.keys) == Set(one.metadata.keys))
            for name in one.names {
                let (a, b) = (try #require(one.tensors[name]), try #require(parts.tensors[name]))
                #expect(one.data(a).elementsEqual(parts.data(b)), "\(name)")
            }
        }
        let bytes = try (0..<count).reduce(0) { sum, number in
            sum
                + (try FileManager.default.attributesOfItem(atPath: folder.file(name(number, of: count)))[.size] as? Int
                    ?? 0)
        }
        #expect(try GGUFFile(path: folder.file(name(0, of: count))).byteCount == bytes)
    }

    @Test("A first part without tensors is as good")
    func noTensorFirst() throws {
        try folder.write(
            name(0, of: 2),
            {
                var builder = part(0, of: 2)
                builder.tensors = []
                return builder.build()
            }())
        var rest = part(1, of: 2)
        rest.tensors = whole.tensors
        try folder.write(name(1, of: 2), rest.build())
        #expect(try GGUFFile(path: folder.file(name(1, of: 2))).tensors.count == whole.tensors.count)
    }

    @Test("A model in one part is whole, whatever its name")
    func single() throws {
        let path = try folder.write("whole.gguf", TinyLlama.gguf { $0.set("split.count", .uint32(1)) })
        _ = try GGUFFile(path: path)
    }

    @Test("A model that gguf-split has merged says 0 parts, and is whole")
    func merged() throws {
        let path = try folder.write(
            "merged.gguf",
            TinyLlama.gguf {
                $0.set("split.no", .uint32(0))
                $0.set("split.count", .uint32(0))
                $0.set("split.tensors.count", .int32(Int32(whole.tensors.count)))
            })
        #expect(try GGUFFile(path: path).tensors.count == whole.tensors.count)
    }

    @Test("A part whose count says that it is whole is refused", arguments: [0, 1] as [UInt32])
    func falselyWhole(count: UInt32) throws {
        for number in 0..<3 {
            var builder = part(number, of: 3)
            builder.set("split.count", .uint32(count))
            let path = try folder.write("part.gguf", builder.build())
            let error = #expect(throws: FormatError.self) { try GGUFFile(path: path) }
            #expect(error?.description.contains("split.count is \(count)") == true)
        }
    }

    @Test("A part that is missing is named")
    func missing() throws {
        try write(3)
        try FileManager.default.removeItem(atPath: folder.file(name(2, of: 3)))
        #expect(refusal(0, of: 3).contains(name(2, of: 3)))
        try FileManager.default.removeItem(atPath: folder.file(name(0, of: 3)))
        #expect(refusal(1, of: 3).contains("\(name(0, of: 3)) is missing"))
    }

    @Test("A part of another model, or under another's name, is named")
    func mixed() throws {
        try write(3) { number, builder in if number == 1 { builder.set("split.no", .uint32(2)) } }
        #expect(refusal(0, of: 3).contains("\(name(1, of: 3)) says that it is part 3 of 3"))
        try write(3) { number, builder in if number == 2 { builder.set("split.count", .uint32(4)) } }
        #expect(refusal(1, of: 3).contains("\(name(2, of: 3)) says that it is part 3 of 4"))
        try write(3) { number, builder in if number == 2 { builder.set("split.tensors.count", .int32(7)) } }
        #expect(refusal(0, of: 3).contains("\(name(2, of: 3)) is of a model of 7 tensors"))
        try write(3) { number, builder in if number == 1 { builder.pairs = [] } }
        #expect(refusal(0, of: 3).contains("\(name(1, of: 3)) is no part of a model"))
        try folder.write("renamed.gguf", part(0, of: 3).build())
        let error = #expect(throws: FormatError.self) { try GGUFFile(path: folder.file("renamed.gguf")) }
        #expect(error?.description.contains("-00001-of-00003.gguf") == true)
    }

    @Test("A tensor in two parts, and a number of tensors that is wrong, are refused")
    func tensors() throws {
        try write(2) { number, builder in if number == 1 { builder.tensors.append(whole.tensors[0]) } }
        #expect(refusal(0, of: 2).contains(whole.tensors[0].name))
        try write(2) { number, builder in if number == 1 { builder.tensors.removeLast() } }
        #expect(refusal(0, of: 2).contains("should have \(whole.tensors.count)"))
    }

    @Test("Impossible numbers are refused, never a trap")
    func hostile() throws {
        for (number, count) in [(UInt32.max, UInt32.max), (5, 3), (0, 70_000), (3, 3)] {
            let builder = GGUFBuilder([("split.no", .uint32(number)), ("split.count", .uint32(count))])
            let path = try folder.write("model-00001-of-00003.gguf", builder.build())
            #expect(throws: FormatError.self, "\(number) of \(count)") { try GGUFFile(path: path) }
        }
        let negative = GGUFBuilder([("split.no", .int32(-1)), ("split.count", .int32(-2))])
        let path = try folder.write("model-00001-of-00003.gguf", negative.build())
        #expect(throws: FormatError.self) { try GGUFFile(path: path) }
    }
}
