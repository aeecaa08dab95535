import Engine
import ModelFormat
import TestKit

/// Models for the tests of this layer.
enum Models {
    static func pool() throws -> WorkerPool { try WorkerPool(threads: 2) }

    static func real(_ model: RealModel, precision: ExpandedPrecision = .f16) throws -> DecoderModel {
        try DecoderModel(
            try model.open(), pool: try pool(), kernels: try Kernels.fromEnvironment(),
            options: ModelOptions(precision: precision))
    }

    static func tiny(
        isa: String? = nil, threads: Int = 2, options: ModelOptions = ModelOptions(),
        change: (inout GGUFBuilder) -> Void = { _ in }
    ) throws -> DecoderModel {
        let folder = try TemporaryFolder()
        let source = try folder.write("tiny.gguf", TinyLlama.gguf(change: change))
        try ModelImport(GGUFSource(try GGUFFile(path: source))).write(to: folder.file("tiny.ebb"))
        let kernels = try isa.map { try Kernels.named($0) } ?? Kernels.fromEnvironment()
        return try DecoderModel(
            try EbbFile(path: folder.file("tiny.ebb")), pool: try WorkerPool(threads: threads), kernels: kernels,
            options: options)
    }
}

extension DecoderModel {
    /// The logits of the last of some tokens.
    func lastLogits(_ sequence: KVSequence, _ tokens: [Int32]) throws -> [Float] {
        var found: [Float] = []
        try run([StepInput(sequence: sequence, tokens: tokens, logits: .last)]) { _, _, logits in found = Array(logits)
        }
        return found
    }
}

extension KVSequence {
    private struct End: Error {}

    /// What it takes to make it again.
    var bytes: [UInt8] {
        var found: [UInt8] = []
        write { found += $0 }
        return found
    }

    func read(_ bytes: [UInt8]) throws {
        var at = 0
        try read { buffer in
            guard at + buffer.count <= bytes.count else { throw End() }
            buffer.copyBytes(from: bytes[at..<at + buffer.count])
            at += buffer.count
        }
    }
}

/// The largest difference, as a share of the range of the first.
func shareOfRange(_ a: [Float], _ b: [Float]) -> Float {
    let range = (a.max() ?? 0) - (a.min() ?? 0)
    let worst = zip(a, b).map { abs($0 - $1) }.max() ?? .infinity
    return a.count == b.count ? worst / max(range, .leastNormalMagnitude) : .infinity
}

/// The index of the largest logit.
func largest(_ logits: [Float]) -> Int32 { Int32(logits.indices.max { logits[$0] < logits[$1] } ?? 0) }
