import Engine
import Foundation
import ModelFormat
import TestKit
import Testing

@Suite("Families of decoders")
struct DecoderFamilyTests {
    static let names = [
        "llama", "llama-bias", "llama-linear", "llama-llama3", "llama-yarn", "llama-yarn-set", "llama-yarn-factor",
        "mistral", "qwen2", "qwen3", "qwen3moe", "olmo2", "olmoe", "gemma2", "gemma3", "phi3", "phi3-partial",
        "phi3-window", "granite", "smollm3", "gpt-oss",
    ]

    static func reference(_ name: String) throws -> FamilyReference {
        try FamilyReference(
            Bundle.module.url(forResource: name, withExtension: "json", subdirectory: "Reference/families"))
    }

    /// What a GGUF (or a folder) is to give, with keys and values as they are or in f16. A GGUF loses what gpt-oss says of
    /// its YaRN, which is the same for all of that family.
    private static func expected(
        _ name: String, _ reference: FamilyReference, halfCache: Bool = true, fromFolder: Bool = false
    ) -> [[Float]] {
        let gguf = name == "gpt-oss" || fromFolder ? nil : reference.gguf
        let found =
            halfCache
            ? gguf?.logits_half_cache ?? reference.logits_half_cache : gguf?.logits ?? reference.logits
        return found.flatMap(\.self)
    }

    /// Logits of the rows that a reference names; each prompt in a context of its length, which is what the reference
    /// chose LongRoPE's factors by.
    private static func logits(
        _ file: EbbFile, _ reference: FamilyReference, expanded: Bool, precision: ExpandedPrecision = .f32
    ) throws -> [[[Float]]] {
        try zip(reference.tokens, reference.rows).map { tokens, rows in
            let model = try DecoderModel(
                file, pool: try Models.pool(), kernels: try Kernels.fromEnvironment(),
                options: ModelOptions(contextLimit: max(tokens.count, 32), precision: precision))
            try model.setAll(expanded: expanded)
            var found: [[Float]] = []
            let sequence = model.makeSequence()
            try model.run([StepInput(sequence: sequence, tokens: tokens, logits: .all)]) { _, token, logits in
                if rows.contains(token) { found.append(Array(logits)) }
            }
            return found
        }
    }

    /// A file of a reference's model, imported from its GGUF.
    static func imported(
        _ name: String, eightBit: Bool = false, change: (inout GGUFBuilder) -> Void = { _ in }
    ) throws -> EbbFile {
        let folder = try TemporaryFolder()
        let bytes = try TinyDecoder(name).gguf(eightBit: eightBit, change: change)
        return try imported(GGUFSource(try GGUFFile(path: try folder.write("family.gguf", bytes))), into: folder)
    }

    private static func imported(_ source: some ModelSource, into folder: TemporaryFolder) throws -> EbbFile {
        try ModelImport(source).write(to: folder.file("family.ebb"))
        let file = try EbbFile(path: folder.file("family.ebb"))
        try ModelFamilies.check(file)
        return file
    }

    /// The largest difference of a row, as a share of its range.
    private static func error(_ expected: [[Float]], _ found: [[[Float]]]) -> Float {
        let found = found.flatMap(\.self)
        guard expected.count == found.count, !found.isEmpty else { return .infinity }
        return zip(expected, found).map(shareOfRange).max() ?? .infinity
    }

    @Test("In floats a family's logits are those of transformers, within 1e-4 of their range", arguments: names)
    func equalsTransformers(name: String) throws {
        let reference = try Self.reference(name)
        let found = try Self.logits(try Self.imported(name), reference, expanded: false)
        // Keys and values are kept in f16, which the reference does here as well.
        let error = Self.error(Self.expected(name, reference), found)
        #expect(error < 1e-4)
        // Without that it is what f16 rounds by, 2^-11, over some layers; a setting that is left out changes hundredths.
        #expect(Self.error(Self.expected(name, reference, halfCache: false), found) < 4e-3)
    }

    @Test("A folder gives the same as its GGUF, and what a GGUF of it loses", arguments: names)
    func folder(name: String) throws {
        let reference = try Self.reference(name)
        let source = try TinyDecoder(name).folder()
        let file = try Self.imported(HuggingFaceFolder(path: source.path), into: source)
        let found = try Self.logits(file, reference, expanded: false)
        // Gemma 3 with scores twice as large as its GGUF has them is at 1.1e-4: a key that lies between two halves may be
        // rounded to the other one than in the reference, by 2^-11.
        #expect(Self.error(Self.expected(name, reference, fromFolder: true), found) < (name == "gemma3" ? 2e-4 : 1e-4))
    }

    @Test("Weights in 8 bits that hold them exactly give the same logits in dequantized mode", arguments: names)
    func dequantized(name: String) throws {
        let reference = try Self.reference(name)
        let file = try Self.imported(name, eightBit: true)
        let found = try Self.logits(file, reference, expanded: true)
        #expect(Self.error(Self.expected(name, reference), found) < 1e-4)
    }

    /// What activations in 8 bits may change. A block's values are rounded by 1/254 of its largest at most, so that a product
    /// of k random terms is off by about 1/254 / sqrt(3) of them: some thousandths of a row's spread at each of the products
    /// on the way, of which these models have 14 to 28, and soft caps or norms keep most of them from growing. The sum of
    /// these as if they were independent is 0.03 of the spread, and the largest of 96 values may be three times that; a row's
    /// range is five of its spreads.
    private static let activationBound: Float = 0.06

    @Test("In memory_low only activations are rounded", arguments: names)
    func memoryLow(name: String) throws {
        let reference = try Self.reference(name)
        let file = try Self.imported(name, eightBit: true)
        let found = try Self.logits(file, reference, expanded: false)
        let error = Self.error(Self.expected(name, reference), found)
        #expect(error < Self.activationBound)
        #expect(error > 1e-5, "nothing was rounded")
    }

    @Test("A prompt in pieces, beside another one, for its last logits gives what it gives alone", arguments: names)
    func inPieces(name: String) throws {
        let reference = try Self.reference(name)
        let model = try DecoderModel(
            try Self.imported(name), pool: try Models.pool(), kernels: try Kernels.fromEnvironment(),
            options: ModelOptions(precision: .f32))
        let (short, long) = (reference.tokens[0], reference.tokens[1])
        let whole = try model.lastLogits(model.makeSequence(), long)
        let (first, second) = (model.makeSequence(), model.makeSequence())
        var pieces: [Float] = []
        for range in [0..<33, 33..<34, 34..<63, 63..<long.count] {
            let batch = [
                StepInput(sequence: second, tokens: short.prefix(range.lowerBound == 0 ? 5 : 2), logits: .none),
                StepInput(sequence: first, tokens: long[range], logits: range.upperBound == long.count ? .last : .none),
            ]
            try model.run(batch) { _, _, logits in pieces = Array(logits) }
        }
        #expect(shareOfRange(whole, pieces) < 1e-4)
    }

    @Test("Experts whose rows and columns fit, but not their three dimensions, are refused before the import")
    func turnedExperts() throws {
        func check(_ dimensions: [UInt64]) throws {
            let folder = try TemporaryFolder()
            let bytes = try TinyDecoder("qwen3moe").gguf { builder in
                for index in builder.tensors.indices where builder.tensors[index].name == "blk.1.ffn_up_exps.weight" {
                    builder.tensors[index].dimensions = dimensions
                }
            }
            try ModelFamilies.check(try GGUFFile(path: try folder.write("family.gguf", bytes)))
        }
        let right = try #require(
            try TinyDecoder("qwen3moe").tensors.first { $0["name"] as? String == "blk.1.ffn_up_exps.weight" }?["shape"]
                as? [Int])
        let (experts, n, k) = (UInt64(right[0]), UInt64(right[1]), UInt64(right[2]))
        try check([k, n, experts])
        for turned in [[k, experts, n], [k, n * experts], [k, n / 2, experts * 2], [k, n * experts, 1]] {
            let error = #expect(throws: FormatError.self) { try check(turned) }
            #expect(error?.description.contains("blk.1.ffn_up_exps.weight has the dimensions") == true)
        }
    }

    @Test("Contradictions in what a mixture of experts says are refused")
    func badExperts() throws {
        func refusal(_ change: @escaping (inout GGUFBuilder) -> Void) -> String {
            let error = #expect(throws: FormatError.self) {
                try Self.imported("qwen3moe", change: change)
            }
            return error?.description ?? ""
        }
        #expect(refusal { $0.set("qwen3moe.expert_used_count", .uint32(5)) }.contains("5 of 4 experts"))
        #expect(refusal { $0.set("qwen3moe.expert_count", .uint32(0)) }.contains("expert_count"))
        #expect(refusal { $0.set("qwen3moe.expert_count", .uint32(8)) }.contains("ffn_gate_inp"))
        #expect(refusal { $0.set("qwen3moe.expert_feed_forward_length", .uint32(48)) }.contains("ffn_gate_exps"))
        #expect(refusal { $0.set("qwen3moe.expert_shared_count", .uint32(1)) }.contains("expert_shared_count"))
    }
}
