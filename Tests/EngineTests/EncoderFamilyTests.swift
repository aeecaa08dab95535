import Engine
import Foundation
import ModelFormat
import Testing
import TestKit

/// Tiny models of every encoder family beside what `transformers` makes of them.
@Suite("Encoder families")
struct EncoderFamilyTests {
    static let embedders = [
        "bert", "xlm-roberta", "nomic-bert", "mpnet", "modernbert", "embeddinggemma", "embeddinggemma-dense",
        "qwen3-embedding",
    ]
    static let rerankers = ["bert-score", "xlm-roberta-score", "modernbert-score"]

    private func reference(_ name: String) throws -> EncoderReference {
        try EncoderReference(Bundle.module.url(forResource: "Reference/families/\(name)", withExtension: "json"))
    }

    private func model(
        _ source: any ModelSource, in folder: TemporaryFolder, isa: String? = nil, precision: ExpandedPrecision = .f32
    ) throws -> EncoderModel {
        try ModelImport(source).write(to: folder.file("model.ebb"))
        let kernels = try isa.map { try Kernels.named($0) } ?? Kernels.fromEnvironment()
        return try EncoderModel(
            try EbbFile(path: folder.file("model.ebb")), pool: try WorkerPool(threads: 2), kernels: kernels,
            precision: precision)
    }

    private func fromFolder(_ reference: EncoderReference) throws -> EncoderModel {
        let folder = try reference.folder()
        return try model(try ModelSources.open(folder.path), in: folder)
    }

    private func fromGGUF(
        _ reference: EncoderReference, quantized: Bool = false, isa: String? = nil, precision: ExpandedPrecision = .f32
    ) throws -> EncoderModel {
        let folder = try TemporaryFolder()
        try folder.write("model.gguf", try reference.gguf(quantized: quantized))
        return try model(
            try ModelSources.open(folder.file("model.gguf")), in: folder, isa: isa, precision: precision)
    }

    private func unit(_ embedding: [Float]) -> [Float] {
        let length = embedding.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return embedding.map { $0 / length }
    }

    /// The largest difference, in parts of the range of what is expected.
    private func worst(_ found: [[Float]], _ expected: [[Float]]) -> Float {
        let all = expected.flatMap { $0 }
        guard found.map(\.count) == expected.map(\.count), let low = all.min(), let high = all.max() else {
            return .infinity
        }
        return (zip(found.flatMap { $0 }, all).map { abs($0 - $1) }.max() ?? .infinity) / (high - low)
    }

    private func texts(_ reference: EncoderReference) -> [EncoderText] {
        zip(reference.tokens, reference.seconds).map { EncoderText($0, second: $1) }
    }

    @Test("A folder's embeddings are those of its own program", arguments: embedders)
    func folders(name: String) throws {
        let reference = try reference(name)
        let found = try fromFolder(reference).embed(reference.tokens)
        #expect(worst(found.map(unit), reference.embeddings.map(unit)) < 1e-4)
    }

    @Test("A GGUF has the folder's embeddings, as floats and dequantized", arguments: embedders, [false, true])
    func ggufs(name: String, quantized: Bool) throws {
        let reference = try reference(name)
        guard reference.hasGGUF else { return }
        let model = try fromGGUF(reference, quantized: quantized)
        if quantized { try model.setAll(expanded: true) }
        let found = try model.embed(reference.tokens)
        #expect(worst(found.map(unit), reference.embeddings.map(unit)) < 1e-4)
    }

    @Test("The scores of pairs are those of the folder's own program", arguments: rerankers)
    func scores(name: String) throws {
        let reference = try reference(name)
        let found = try fromFolder(reference).score(texts(reference))
        #expect(worst([found], [reference.scores]) < 1e-4)
    }

    @Test("A GGUF has the folder's scores, but where it lacks BERT's pooler", arguments: rerankers, [false, true])
    func ggufScores(name: String, quantized: Bool) throws {
        let reference = try reference(name)
        let model = try fromGGUF(reference, quantized: quantized)
        if quantized { try model.setAll(expanded: true) }
        #expect(worst([try model.score(texts(reference))], [reference.ggufScores]) < 1e-4)
    }

    /// The weights are exact in Q8_0. What is left is that products' inputs are rounded to 127ths of the largest of 32 values
    /// each: at most 1/254 of it, which errors of random sign in two to four layers of six products bring to some percent of
    /// the range. That of three to six scores is about half as many of their spreads as that of a row of values.
    @Test("memory_low stays near", arguments: embedders + rerankers)
    func memoryLow(name: String) throws {
        let reference = try reference(name)
        guard reference.hasGGUF else { return }
        let model = try fromGGUF(reference, quantized: true)
        let found =
            model.config.isReranker
            ? [try model.score(texts(reference))] : try model.embed(reference.tokens).map(unit)
        let expected =
            model.config.isReranker ? [reference.ggufScores] : reference.embeddings.map(unit)
        let worst = worst(found, expected)
        #expect(worst < (model.config.isReranker ? 0.08 : 0.03), "\(worst)")
        #expect(worst > 1e-6, "not in integers")
    }

    @Test(
        "A text has the same bits alone and with others, in every mode",
        arguments: embedders + rerankers, Kernels.available.map(\.name))
    func bits(name: String, isa: String) throws {
        guard (try? Kernels.named(isa)) != nil else { return }
        let reference = try reference(name)
        var random = TestRandom(seed: 5)
        let lengths = [2, 7, 33, 1, 16, 90, 3, 8, 65, 2, 100, 31, 9, 12, 15, 128, 17]
        // Plain C is slow: the first half will do.
        let texts = lengths.prefix(isa == "plain" ? 8 : lengths.count).map { length in
            EncoderText(
                (0..<length).map { _ in Int32.random(in: 0..<96, using: &random) }, second: length - length / 3)
        }
        func check(_ model: EncoderModel, _ mode: String) throws {
            func run(_ texts: [EncoderText]) throws -> [[Float]] {
                model.config.isReranker ? try model.score(texts).map { [$0] } : try model.embed(texts.map(\.tokens))
            }
            let together = try run(texts)
            for (text, embedding) in zip(texts, together) {
                let isEqual = try run([text])[0] == embedding
                #expect(isEqual, "\(text.tokens.count) tokens, \(mode)")
            }
        }
        guard reference.hasGGUF else { return try check(try fromFolder(reference), "floats") }
        for precision in ExpandedPrecision.allCases {
            let model = try fromGGUF(reference, quantized: true, isa: isa, precision: precision)
            try check(model, "memory_low")
            try model.setAll(expanded: true)
            try check(model, "\(precision)")
        }
    }

    @Test(
        "A pair has its ends around and between its texts, one or two of them, and the longer one is cut",
        arguments: [("bert-score", 1), ("xlm-roberta-score", 2), ("modernbert-score", 1)])
    func pairs(name: String, ends: Int) throws {
        let reference = try reference(name)
        let (first, last) = (reference.tokens[0].first ?? 0, reference.tokens[0].last ?? 0)
        let model = try fromFolder(reference)
        let between = Array(repeating: last, count: ends)
        let pair = model.pair("t5 t6", "t7")
        #expect(pair.tokens == [first, 5, 6] + between + [7, last] && pair.second == 3 + ends)
        let long = model.pair("t5", String(repeating: "t8 ", count: 1000))
        #expect(long.tokens.count == model.config.maxTokens && long.second == 2 + ends && long.tokens.last == last)
        let query = model.pair(String(repeating: "t8 ", count: 1000), "t5")
        #expect(query.tokens.count == model.config.maxTokens && query.tokens.suffix(ends + 2) == between + [5, last])
        let both = model.pair(String(repeating: "t8 ", count: 1000), String(repeating: "t5 ", count: 1000))
        #expect(abs(both.tokens.count { $0 == 8 } - both.tokens.count { $0 == 5 }) <= 1)
    }

    @Test("A reranker makes no embeddings, and an embedder no scores")
    func wrongKind() throws {
        let ranker = try fromFolder(try reference("bert-score"))
        #expect(throws: EngineError.self) { try ranker.embed([[1, 2]]) }
        let embedder = try fromFolder(try reference("bert"))
        #expect(throws: EngineError.self) { try embedder.score([EncoderText([1, 2])]) }
    }
}
