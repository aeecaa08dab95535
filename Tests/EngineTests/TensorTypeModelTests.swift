import CKernels
import Engine
import ModelFormat
import Testing
import TestKit

/// A type of ggml, and how random blocks of it get scales that suit weights.
struct BlockType: Sendable, CustomTestStringConvertible {
    let name: String
    let number: UInt32
    /// Values and bytes of a block.
    let length, bytes: Int
    /// Bytes that are not random, by their places.
    let fixed: [(place: Int, byte: UInt8)]

    var testDescription: String { name }

    /// With an f16 scale.
    init(_ name: String, _ number: UInt32, _ length: Int, _ bytes: Int, scale: Float, at place: Int = 0) {
        let half = ebb_f32_to_f16(scale)
        self.init(name, number, length, bytes, [(place, UInt8(half & 255)), (place + 1, UInt8(half >> 8))])
    }

    init(_ name: String, _ number: UInt32, _ length: Int, _ bytes: Int, _ fixed: [(Int, UInt8)]) {
        (self.name, self.number, self.length, self.bytes) = (name, number, length, bytes)
        self.fixed = fixed.map { (place: $0.0, byte: $0.1) }
    }

    func blocks(_ count: Int, random: inout TestRandom) -> [UInt8] {
        (0..<count).flatMap { _ in
            var block = (0..<bytes).map { _ in UInt8.random(in: .min ... .max, using: &random) }
            for (place, byte) in fixed { block[place] = byte }
            return block
        }
    }

    static let all = [
        BlockType("IQ4_NL", 20, 32, 18, scale: 0.0008), BlockType("IQ4_XS", 23, 256, 136, scale: 0.00005),
        BlockType("MXFP4", 39, 32, 17, [(0, 120)]),
        BlockType("NVFP4", 40, 64, 36, [(0, 8), (1, 11), (2, 14), (3, 15)]),
        BlockType("IQ3_XXS", 18, 256, 98, scale: 0.0003), BlockType("IQ3_S", 21, 256, 110, scale: 0.0003),
        BlockType("IQ2_XXS", 16, 256, 66, scale: 0.0008), BlockType("IQ2_XS", 17, 256, 74, scale: 0.0008),
        BlockType("IQ2_S", 22, 256, 82, scale: 0.0008), BlockType("IQ1_S", 19, 256, 50, scale: 0.008),
        // The scale's four digits are 0x1a00, each with random scales of its own below.
        BlockType("IQ1_M", 29, 256, 56, [(49, 0x02), (51, 0x05), (53, 0xa3), (55, 0x17)]),
        BlockType("TQ1_0", 34, 256, 54, scale: 0.1, at: 52), BlockType("TQ2_0", 35, 256, 66, scale: 0.1, at: 64),
        BlockType("Q1_0", 41, 128, 18, scale: 0.05), BlockType("Q2_0", 42, 64, 18, scale: 0.05),
    ]
}

@Suite("Models of every tensor type")
struct TensorTypeModelTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// The tiny llama with blocks of a type wherever its matrices' rows are whole ones, and the same in f32.
    private func sources(_ type: BlockType) throws -> (blocks: GGUFSource, floats: GGUFSource) {
        var random = TestRandom(seed: UInt64(type.number))
        var floats: GGUFBuilder?
        let bytes = TinyLlama.gguf(hidden: 256) { builder in
            floats = builder
            for (index, tensor) in builder.tensors.enumerated() where tensor.dimensions.count == 2 {
                guard tensor.dimensions[0] % UInt64(type.length) == 0 else { continue }
                builder.tensors[index].type = type.number
                let values = Int(tensor.dimensions[0] * tensor.dimensions[1])
                builder.tensors[index].data = type.blocks(values / type.length, random: &random)
            }
        }
        let blocks = GGUFSource(try GGUFFile(path: try folder.write("blocks.gguf", bytes)))
        var builder = try #require(floats)
        for tensor in blocks.tensors where !tensor.isVector {
            var values = [Float](repeating: 0, count: tensor.n * tensor.k)
            try values.withUnsafeMutableBufferPointer { out in
                guard let base = out.baseAddress else { return }
                for n in 0..<tensor.n { try blocks.read(tensor, channel: n, into: base + n * tensor.k) }
            }
            builder[tensor.name] = values
        }
        return (blocks, GGUFSource(try GGUFFile(path: try folder.write("floats.gguf", builder.build()))))
    }

    private func model(_ source: GGUFSource, _ name: String) throws -> DecoderModel {
        try ModelImport(source).write(to: folder.file(name))
        return try DecoderModel(
            try EbbFile(path: folder.file(name)), pool: try Models.pool(), kernels: try Kernels.fromEnvironment(),
            options: ModelOptions(precision: .f32))
    }

    @Test("Its logits are those of its floats, expanded exactly and in memory_low nearly", arguments: BlockType.all)
    func logits(type: BlockType) throws {
        let sources = try sources(type)
        let (small, floats) = (try model(sources.blocks, "blocks.ebb"), try model(sources.floats, "floats.ebb"))
        // Few rows go straight from the records; many through panels.
        for prompt: [Int32] in [[5], [1, 2, 3, 4, 5], (0..<70).map { $0 * 4 % 300 }] {
            let expected = try floats.lastLogits(floats.makeSequence(), prompt)
            try small.setAll(expanded: false)
            let low = try small.lastLogits(small.makeSequence(), prompt)
            #expect(shareOfRange(expected, low) < 0.05, "\(prompt.count) tokens")
            try small.setAll(expanded: true)
            #expect(try small.lastLogits(small.makeSequence(), prompt) == expected, "\(prompt.count) tokens")
        }
    }
}
