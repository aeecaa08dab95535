import Engine
import ModelFormat
import TestKit
import Testing

/// Decoders whose files say that rows are pooled.
@Suite("Decoders that embed")
struct EmbeddingDecoderTests {
    private func imported(
        _ name: String, eightBit: Bool = false, change: (inout GGUFBuilder, String) -> Void = { _, _ in }
    ) throws -> EbbFile {
        let folder = try TemporaryFolder()
        let tiny = try TinyDecoder(name)
        let architecture = tiny.metadata["general.architecture"]?["value"] as? String ?? ""
        let bytes = try tiny.gguf(eightBit: eightBit) { change(&$0, architecture) }
        let source = GGUFSource(try GGUFFile(path: try folder.write("model.gguf", bytes)))
        try ModelImport(source).write(to: folder.file("model.ebb"), checking: ModelFamilies.check)
        return try EbbFile(path: folder.file("model.ebb"))
    }

    private func pooled(_ name: String, eightBit: Bool = false, causal: Bool = true) throws -> EbbFile {
        try imported(name, eightBit: eightBit) { builder, architecture in
            builder.set("\(architecture).pooling_type", .uint32(3))
            if !causal { builder.set("\(architecture).attention.causal", .bool(false)) }
        }
    }

    private func encoder(_ file: EbbFile, isa: String? = nil) throws -> EncoderModel {
        let kernels = try isa.map { try Kernels.named($0) } ?? Kernels.fromEnvironment()
        return try EncoderModel(file, pool: try Models.pool(), kernels: kernels, precision: .f32)
    }

    private func unit(_ row: [Float]) -> [Float] {
        let length = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return row.map { $0 / length }
    }

    private static let tokens = (0..<70).map { Int32(4 + $0 * 37 % 90) }

    /// The row of the last token that a decoder makes its logits of, with length 1.
    private func lastRow(_ file: EbbFile) throws -> [Float] {
        let model = try DecoderModel(
            file, pool: try Models.pool(), kernels: try Kernels.fromEnvironment(),
            options: ModelOptions(precision: .f32))
        var row: [Float] = []
        try model.withSingleSequence(Self.tokens) {
            for layer in 0..<model.config.layers { try model.runLayer(layer) }
            let width = model.config.hidden
            row = (0..<width).map { model.residual[(Self.tokens.count - 1) * width + $0] }
        }
        let norm = try #require(file.vector("output_norm.weight"))
        return unit(row.enumerated().map { $1 * norm[$0] })
    }

    /// The decoder keeps keys and values in f16, which changes some thousandths of a row at most.
    @Test(
        "The row of the last token is what a decoder makes its logits of, in every family",
        arguments: DecoderFamilyTests.names)
    func lastRows(name: String) throws {
        let expected = try lastRow(try imported(name))
        let found = try encoder(try pooled(name)).embed([Self.tokens])[0]
        #expect(shareOfRange(expected, found) < 4e-3)
    }

    @Test("A file may say that tokens see those after them")
    func bothSides() throws {
        let (causal, both) = (
            try encoder(try pooled("qwen3")).embed([Self.tokens])[0],
            try encoder(try pooled("qwen3", causal: false)).embed([Self.tokens])[0]
        )
        #expect(shareOfRange(causal, both) > 0.02)
    }

    @Test(
        "A text has the same bits alone and with others, through experts, sinks and caps",
        arguments: ["qwen3moe", "gpt-oss", "gemma2"], Kernels.available.map(\.name))
    func bits(name: String, isa: String) throws {
        guard (try? Kernels.named(isa)) != nil else { return }
        let model = try encoder(try pooled(name, eightBit: true), isa: isa)
        let texts = [3, 40, 1, 17, 65, 8].map { Array(Self.tokens.prefix($0)) }
        for isExpanded in [false, true] {
            try model.setAll(expanded: isExpanded)
            for (text, embedding) in zip(texts, try model.embed(texts)) {
                let isEqual = try model.embed([text])[0] == embedding
                #expect(isEqual, "\(text.count) tokens, \(isExpanded)")
            }
        }
    }

    @Test("It is said to embed, and a decoder without pooling to generate")
    func summaries() throws {
        #expect(ModelSummary(try pooled("qwen3")).use == .embed)
        #expect(ModelSummary(try imported("qwen3")).use == .generate)
    }

    @Test("A rank is no pooling that a decoder's rows can have")
    func rank() throws {
        #expect(throws: FormatError.self) {
            try imported("qwen3") { builder, name in builder.set("\(name).pooling_type", .uint32(4)) }
        }
    }

    @Test("Without a token that ends it, a text that is too long loses its end")
    func cut() throws {
        let file = try imported("qwen3") { builder, architecture in
            builder.set("\(architecture).pooling_type", .uint32(3))
            builder.set("tokenizer.ggml.add_eos_token", .bool(false))
        }
        let model = try encoder(file)
        let (long, limit) = (Self.tokens + Self.tokens, 100)
        let cut = EncoderModel.cut(long, model.tokenizer, limit: limit)
        #expect(cut.isCut && cut.tokens == Array(long.prefix(limit)))
        #expect(!EncoderModel.cut(long, model.tokenizer, limit: long.count).isCut)
    }
}
