import Foundation
import ModelFormat
import Quantization

/// Chooses a width for each matrix, for a size or for a loss, and proves the choice by measuring it against the uniform
/// recipes that serve the same end.
public struct MixedPrecision {
    public enum Goal: Sendable {
        /// Bytes of the file at most.
        case size(Int)
        /// ``OutputLoss/value`` at most.
        case loss(Double)
    }

    public struct Choice: Sendable {
        public let recipe: Recipe
        public let bytes: Int
        public let loss: OutputLoss
        /// Whether all widths are equal after all.
        public let isUniform: Bool
    }

    /// Writes a recipe's result to a path: how the caller quantizes (methods, calibration, threads).
    public typealias Write = (QuantizationPlan, String) throws -> Void

    private let source: any ModelSource
    private let sensitivity: Sensitivity
    private let reference: ReferenceOutputs
    private let method: QuantizationMethod
    private let keep: [Recipe.Rule]
    private let threads: Int
    private let write: Write

    /// Times that the budget of the predicted loss is corrected by what was measured.
    private static let corrections = 5

    public init(
        _ source: any ModelSource, _ sensitivity: Sensitivity, reference: ReferenceOutputs, method: QuantizationMethod,
        keep: [Recipe.Rule], threads: Int, write: @escaping Write
    ) {
        (self.source, self.sensitivity, self.reference, self.method) = (source, sensitivity, reference, method)
        (self.keep, self.threads, self.write) = (keep, threads, write)
    }

    /// - Throws: ``FormatError`` where the goal cannot be reached, with what can.
    public func choose(_ goal: Goal, progress: (String) -> Void = { _ in }) throws -> Choice {
        switch goal {
        case .size(let bytes): try smallest(bytes, progress)
        case .loss(let loss): try lossless(loss, progress)
        }
    }

    private func recipe(_ widths: [String: Int]) -> Recipe {
        let rules = widths.sorted { $0.key < $1.key }.map { name, bits in
            Recipe.Rule(
                tensors: NSRegularExpression.escapedPattern(for: name), bits: bits, block: sensitivity.block,
                asymmetric: sensitivity.asymmetric, method: method)
        }
        return Recipe(keep + rules)
    }

    private func uniform(_ bits: Int) -> Recipe {
        recipe(Dictionary(uniqueKeysWithValues: sensitivity.matrices.map { ($0.tensor.name, bits) }))
    }

    private func bytes(_ recipe: Recipe) throws -> Int {
        try QuantizedCopy(source, try QuantizationPlan(source, recipe), jobs: threads).predictedBytes()
    }

    private func measure(_ recipe: Recipe, isUniform: Bool) throws -> Choice {
        let folder = try WorkFolder()
        let path = folder.file()
        defer { withExtendedLifetime(folder) {} }
        try write(try QuantizationPlan(source, recipe), path)
        let file = try EbbFile(path: path)
        let model = try RunnableModel(EbbSource(file), expanded: false, threads: threads)
        return Choice(
            recipe: recipe, bytes: file.byteCount, loss: try reference.loss(of: model), isUniform: isUniform)
    }

    private func smallest(_ target: Int, _ progress: (String) -> Void) throws -> Choice {
        let least = try bytes(uniform(Sensitivity.widths.lowerBound))
        guard least <= target else {
            throw FormatError("a file of \(target) bytes is impossible: with 2 bits everywhere it has \(least)")
        }
        // What a file takes besides the matrices in question: from the sum of the two.
        let eight = try bytes(uniform(8))
        let matrices = try sensitivity.matrices.reduce(0) { sum, matrix in
            let scheme = try Scheme(bits: 8, block: sensitivity.block, asymmetric: sensitivity.asymmetric)
            return sum + (Encoding.quantized(scheme).byteCount(n: matrix.tensor.n, k: matrix.tensor.k) ?? 0)
        }
        // Padding to pages moves a little with every width.
        var room = target - (eight - matrices)
        var mixed = recipe(try sensitivity.widths { bytes, _ in bytes > room })
        while try bytes(mixed) > target {
            room -= 4096
            mixed = recipe(try sensitivity.widths { bytes, _ in bytes > room })
        }
        progress("measuring the mixed recipe")
        let choice = try measure(mixed, isUniform: false)
        progress("measuring the uniform recipe of that size")
        let rival = try Sensitivity.widths.reversed().first { try bytes(uniform($0)) <= target }
        guard let rival else { return choice }
        let other = try measure(uniform(rival), isUniform: true)
        return other.loss.value < choice.loss.value ? other : choice
    }

    private func lossless(_ target: Double, _ progress: (String) -> Void) throws -> Choice {
        var best: Choice?
        func consider(_ choice: Choice) {
            if choice.loss.value <= target, choice.bytes < best?.bytes ?? .max { best = choice }
        }
        var budget = target
        for round in 1...Self.corrections {
            progress("measuring mixed recipe \(round)/\(Self.corrections)")
            let choice = try measure(recipe(try sensitivity.widths { _, after in after <= budget }), isUniform: false)
            consider(choice)
            let found = max(choice.loss.value, target * 1e-3)
            if found <= target, found > target * 0.9 { break }
            budget *= min(max(target * 0.95 / found, 0.3), 3)
        }
        progress("measuring the uniform recipes")
        for bits in Sensitivity.widths {
            let recipe = uniform(bits)
            guard try best.map({ try bytes(recipe) < $0.bytes }) ?? true else { break }
            let choice = try measure(recipe, isUniform: true)
            consider(choice)
            if choice.loss.value <= target { break }
        }
        guard let best else {
            throw FormatError(
                "a loss of \(target) is not reached with 8 bits everywhere either; store f16 (--fp16) instead")
        }
        return best
    }
}
