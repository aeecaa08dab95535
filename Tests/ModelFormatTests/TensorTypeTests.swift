import CKernels
import Foundation
@testable import ModelFormat
import Quantization
import Testing
import TestKit

/// Random blocks of the types that came after the K-quants, and what the gguf package makes of them:
/// Tests/TensorTypes/references.py.
private struct References: Decodable {
    struct Row: Decodable { let bytes, values: Data }
    struct Kind: Decodable {
        let number: UInt32
        let width: Int
        let rows: [Row]
    }
    let grids: [String: String]
    let types: [String: Kind]

    static func load() throws -> References {
        let url = Bundle.module.url(forResource: "tensor-types", withExtension: "json", subdirectory: "Reference")
        return try JSONDecoder().decode(References.self, from: Data(try Reference.text(url).utf8))
    }
}

extension Data {
    fileprivate var floats: [Float] {
        withUnsafeBytes { bytes in
            stride(from: 0, to: bytes.count, by: 4).map { bytes.loadUnaligned(fromByteOffset: $0, as: Float.self) }
        }
    }
}

@Suite("Tensor types of ggml")
struct TensorTypeTests {
    private static let names = [
        "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "MXFP4", "NVFP4",
        "TQ1_0",
        "TQ2_0", "Q1_0", "Q2_0",
    ]

    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func source(_ tensor: GGUFBuilder.Tensor) throws -> GGUFSource {
        let builder = GGUFBuilder([("general.architecture", .string("test"))], [tensor])
        return GGUFSource(try GGUFFile(path: try folder.write("in.gguf", builder.build())))
    }

    private func imported(_ tensor: GGUFBuilder.Tensor) throws -> EbbFile {
        try ModelImport(source(tensor)).write(to: folder.file("out.ebb"))
        return try EbbFile(path: folder.file("out.ebb"))
    }

    private func refusal(_ tensor: GGUFBuilder.Tensor) throws -> String {
        let error = #expect(throws: FormatError.self) { _ = try imported(tensor) }
        return error?.description ?? ""
    }

    /// A type's rows, again and again, so that a second tile begins.
    private func tensor(_ kind: References.Kind, rows: Int) -> GGUFBuilder.Tensor {
        GGUFBuilder.Tensor(
            "w", type: kind.number, dimensions: [UInt64(kind.width), UInt64(rows)],
            data: (0..<rows).flatMap { Array(kind.rows[$0 % kind.rows.count].bytes) })
    }

    /// The first value of a channel that is not the package's.
    private func difference(_ row: [Float], _ kind: References.Kind, _ channel: Int) -> String? {
        let expected = kind.rows[channel % kind.rows.count].values.floats
        guard let i = row.indices.first(where: { !(row[$0] == expected[$0]) }) else { return nil }
        return "channel \(channel), value \(i): \(row[i]) for \(expected[i])"
    }

    @Test("A container keeps every value of the gguf package, bit for bit", arguments: names)
    func keepsValues(name: String) throws {
        let kind = try #require(References.load().types[name])
        let file = try imported(tensor(kind, rows: 17))
        var matrix = try #require(file.matrix("w"))
        for channel in 0..<17 {
            var row = [Float](repeating: .nan, count: kind.width)
            ebb_dequantize_channel(&matrix, UInt32(channel), &row)
            // Equal floats are equal bits but for zero, which has no sign here.
            #expect(difference(row, kind, channel) == nil)
        }
        try file.verify()
    }

    @Test("Every instruction set expands them to the same floats", arguments: names)
    func expands(name: String) throws {
        let kind = try #require(References.load().types[name])
        let file = try imported(tensor(kind, rows: 2))
        var matrix = try #require(file.matrix("w"))
        for isa in 0..<EBB_ISA_COUNT.rawValue {
            guard let table = ebb_kernels_for(ebb_isa(isa)) else { continue }
            var tile = [Float](repeating: .nan, count: kind.width * 16)
            table.pointee.expand(&matrix, 0, 1, EBB_ENCODING_F32.rawValue, &tile)
            for channel in 0..<2 {
                let row = (0..<kind.width).map { tile[$0 * 16 + channel] }
                #expect(difference(row, kind, channel) == nil, "instruction set \(isa)")
            }
        }
    }

    @Test("What quantizes a model anew reads the same values", arguments: names)
    func reads(name: String) throws {
        let kind = try #require(References.load().types[name])
        let source = try source(tensor(kind, rows: 2))
        let found = try #require(source.tensors.first)
        for channel in 0..<2 {
            var row = [Float](repeating: .nan, count: kind.width)
            try source.read(found, channel: channel, into: &row)
            #expect(difference(row, kind, channel) == nil)
        }
    }

    @Test("The grids are those of the gguf package")
    func grids() throws {
        let magnitudes: [String: (Grid, [Int])] = [
            "IQ1_S": (.iq1, [-1, 0, 1]), "IQ2_XXS": (.iq2xxs, [8, 25, 43]), "IQ2_XS": (.iq2xs, [8, 25, 43]),
            "IQ2_S": (.iq2s, [8, 25, 43]), "IQ3_XXS": (.iq3xxs, [4, 12, 20, 28, 36, 44, 52, 62]),
            "IQ3_S": (.iq3s, [1, 3, 5, 7, 9, 11, 13, 15]),
        ]
        for (name, digest) in try References.load().grids {
            let (grid, values) = try #require(magnitudes[name])
            var hash: UInt64 = 0xcbf2_9ce4_8422_2325
            for digit in grid.digits {
                hash = (hash ^ UInt64(UInt8(truncatingIfNeeded: values[Int(digit)]))) &* 0x100_0000_01b3
            }
            #expect(hash == UInt64(digest, radix: 16), "\(name)")
        }
    }

    @Test("Doubles become the nearest floats")
    func doubles() throws {
        let values = [0.1, -3, 1e-3, 5e20]
        let data = values.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
        let file = try imported(.init("v", type: 28, dimensions: [4], data: data))
        #expect(file.vector("v") == values.map { Float($0) })
    }

    @Test("Rows that are no multiple of a block are refused, by the tensor's name and the block", arguments: names)
    func partBlocks(name: String) throws {
        let kind = try #require(References.load().types[name])
        let text = try refusal(
            .init(
                "w", type: kind.number, dimensions: [UInt64(kind.width + 16), 2], data: Array(repeating: 0, count: 4096)
            ))
        #expect(
            text.contains("w has rows of \(kind.width + 16) values") && text.contains("as \(name) needs"), "\(text)")
    }

    @Test(
        "What no weights have is refused by its name",
        arguments: [
            (24, "I8"), (25, "I16"), (26, "I32"), (27, "I64"), (9, "Q8_1"), (15, "Q8_K"), (31, "given up"), (77, "77"),
        ])
    func refusals(number: UInt32, name: String) throws {
        let text = try refusal(.init("w", type: number, dimensions: [32, 2], data: Array(repeating: 0, count: 4096)))
        #expect(text.contains("w has ") && text.contains(name) && text.contains("MXFP4"), "\(text)")
    }

    @Test(
        "Scales that are no numbers, or make none, are refused",
        // Type, bytes of a block, values in it, where the scale lies and what makes it infinite.
        arguments: [
            (16, 66, 256, 0, [0, 0x7c]), (17, 74, 256, 0, [0, 0xfc]), (18, 98, 256, 0, [1, 0x7e]),
            (19, 50, 256, 0, [0, 0x7c]),
            (20, 18, 32, 0, [0, 0x7c]), (21, 110, 256, 0, [0, 0x7c]), (22, 82, 256, 0, [0, 0x7c]),
            (23, 136, 256, 0, [0, 0x7c]), (29, 56, 256, 52, [0, 0xc0, 0, 0x70]), (34, 54, 256, 52, [0, 0x7c]),
            (35, 66, 256, 64, [0, 0x7c]), (39, 17, 32, 0, [253]), (39, 17, 32, 0, [255]), (41, 18, 128, 0, [0, 0x7c]),
            (42, 18, 64, 0, [0, 0x7c]),
        ] as [(UInt32, Int, Int, Int, [UInt8])])
    func scales(type: UInt32, bytes: Int, values: Int, place: Int, infinity: [UInt8]) throws {
        var data = [UInt8](repeating: 0, count: bytes * 17)
        data.replaceSubrange(16 * bytes + place..<16 * bytes + place + infinity.count, with: infinity)
        let text = try refusal(.init("q", type: type, dimensions: [UInt64(values), 17], data: data))
        #expect(text.contains("q holds") && text.contains("(1 scale)"), "\(type): \(text)")
    }

    @Test("An import says which types take more room, in how many bits, and which are rounded")
    func notices() throws {
        func notices(_ type: UInt32, _ bytes: Int, _ dimensions: [UInt64]) throws -> [String] {
            try source(.init("w", type: type, dimensions: dimensions, data: Array(repeating: 0, count: bytes))).notices
        }
        let wide = try notices(16, 66 * 2, [256, 2])
        #expect(
            wide.count == 1 && wide[0].contains("1 tensor of the type IQ2_XXS takes 1.6 x")
                && wide[0].contains("3 bits"))
        #expect(try notices(40, 36 * 2, [64, 2]).first?.contains("NVFP4 takes 1.1 x") == true)
        #expect(try notices(28, 8 * 4, [4]) == ["1 tensor of the type F64 became f32, rounded to 24 bits"])
        for (type, bytes, length) in [(2, 18, 32), (20, 18, 32), (23, 136, 256), (39, 17, 32), (35, 66, 256)] {
            #expect(try notices(UInt32(type), bytes, [UInt64(length), 1]).isEmpty, "\(type)")
        }
    }

    @Test("Types of one bit and a half may take more in the container than in the file")
    func grows() throws {
        // 16 M values: 3.3 MB become 6.6 MB and more, beyond what a container may take without a reason.
        let block = [UInt8](repeating: 0, count: 50)
        let rows = 32_768
        let file = try imported(
            .init("w", type: 19, dimensions: [1024, UInt64(rows)], data: (0..<rows * 4).flatMap { _ in block }))
        #expect(file.byteCount > 2 * rows * 200)
    }
}

@Suite("Containers of version 2")
struct ContainerVersionTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// A file with one matrix of this scheme, or a vector.
    private func write(_ scheme: Scheme?) throws -> String {
        let layout = scheme.map { TensorShape.Layout.matrix(.quantized($0)) } ?? .vector
        let shape = TensorShape(name: "w", layout: layout, n: 16, k: scheme == nil ? 1 : 256)
        let writer = try EbbWriter(destination: folder.file("v.ebb"), metadata: MetadataEncoder(), shapes: [shape])
        try [UInt8](repeating: 0, count: shape.byteCount ?? 0).withUnsafeBytes { try writer.append($0) }
        try writer.finish()
        return folder.file("v.ebb")
    }

    private func version(_ scheme: Scheme?) throws -> UInt8 {
        Array(try Data(contentsOf: URL(fileURLWithPath: write(scheme))))[8]
    }

    @Test("Only what an older reader would read wrong has the new version")
    func versions() throws {
        #expect(try version(nil) == 1)
        #expect(try version(Scheme(bits: 4, block: 32, asymmetric: true)) == 1)
        #expect(try version(Scheme(bits: 4, block: 32, asymmetric: false, values: .iq4nl)) == 2)
        #expect(try version(Scheme(bits: 8, block: 32, asymmetric: false, scale: .e8m0)) == 2)
    }

    @Test("Every scheme with a table is read as it was written")
    func schemes() throws {
        for values in ValueTable.allCases {
            for scale in ScaleKind.allCases {
                for block in [16, 32] {
                    guard
                        let scheme = try? Scheme(
                            bits: values.bits ?? 4, block: block, asymmetric: false, scale: scale, values: values)
                    else { continue }
                    let file = try EbbFile(path: write(scheme))
                    #expect(file.shapes.first?.layout == .matrix(.quantized(scheme)))
                    #expect(file.matrix("w")?.values == UInt32(values.rawValue))
                }
            }
        }
    }

    @Test("Impossible schemes are refused")
    func impossible() {
        #expect(throws: SchemeError.self) { try Scheme(bits: 4, block: 32, asymmetric: true, values: .iq4nl) }
        #expect(throws: SchemeError.self) { try Scheme(bits: 3, block: 32, asymmetric: false, values: .e2m1) }
        #expect(throws: SchemeError.self) { try Scheme(bits: 4, block: 32, asymmetric: true, scale: .e8m0) }
    }

    @Test("A table and a version of tomorrow are refused, and say so")
    func tomorrow() throws {
        let path = try write(Scheme(bits: 4, block: 32, asymmetric: false, values: .iq4nl))
        func refusal(at place: Int, _ byte: UInt8) throws -> String {
            var data = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
            data[place] = byte
            let sizes = data.withUnsafeBytes { bytes in
                (0..<2).map { bytes.loadUnaligned(fromByteOffset: 32 + $0 * 8, as: UInt64.self) }
            }
            let sum = (data[..<48] + data[64..<64 + Int(sizes[0] + sizes[1])]).withUnsafeBytes { Checksum.of($0) }
            data.replaceSubrange(48..<56, with: withUnsafeBytes(of: sum.littleEndian) { Array($0) })
            try Data(data).write(to: URL(fileURLWithPath: folder.file("w.ebb")))
            let error = #expect(throws: FormatError.self) { _ = try EbbFile(path: folder.file("w.ebb")) }
            return error?.description ?? ""
        }
        #expect(try refusal(at: 8, 3).contains("version 3"))
        // The metadata are a count; the table is a count, the name (8 + 1 bytes), kind, encoding, bits, scales, symmetry.
        let values = 64 + 8 + 8 + 9 + 5
        #expect(try refusal(at: values, 7).contains("unknown table of values 7"))
        #expect(try refusal(at: values, 3).contains("table of 8 values"))
    }
}
