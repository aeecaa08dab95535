import Foundation
import ModelFormat
import Quantization

/// Full-graph INT8: every linear layer has 8-bit weights with a scale a channel and an input with fixed scales, and an
/// encoder's attention products run in int8 too. Embeddings and output heads keep blocks of 32.
public struct FullInt8 {
    public let recipe: Recipe
    /// Where outliers went: factors in the weights' columns.
    public let columnFactors: [String: [Float]]
    /// `NAME.input_scale`, `NAME.input_smoothing`, `blk.N.attention_scales`.
    public let vectors: [(name: String, values: [Float])]

    public enum Smoothing: Sendable, Hashable {
        /// Outliers stay where they are.
        case none
        /// For each input what is predicted to lose least.
        case automatic
        /// SmoothQuant's exponent, 0...1 (Xiao et al. 2023, equation 4).
        case exponent(Float)
    }

    /// - Parameters:
    ///   - keep: matrices whose whole name matches stay floats.
    /// - Throws: ``FormatError`` where the calibration belongs to another model.
    public init(
        _ source: any ModelSource, _ calibration: Calibration, range: RangeMethod, smoothing: Smoothing = .automatic,
        keep: String? = nil, kept: Recipe.Kept = .source
    ) throws {
        let tensors = Dictionary(uniqueKeysWithValues: source.tensors.map { ($0.name, $0) })
        let pattern = try keep.map { try Regex($0) }
        var rules: [Recipe.Rule] = []
        if let keep { rules.append(.init(tensors: keep, keep: kept)) }
        var factors: [String: [Float]] = [:]
        var vectors: [(name: String, values: [Float])] = []
        for input in calibration.inputs {
            let weights = try input.weights.filter { name in
                guard let tensor = tensors[name], tensor.k == input.channelMax.count else {
                    throw FormatError("the calibration is of another model: \(name) is not in \(source.path)")
                }
                let isKept = try pattern.map { try $0.wholeMatch(in: name) != nil } ?? false
                return QuantizationPlan.layer(of: name) != nil && !name.hasPrefix("output") && !isKept
            }
            guard !weights.isEmpty else { continue }
            let limit = try Self.range(input.ranges, range)
            // What lies beyond the chosen range is clipped, so it needs no migration either.
            let channelMax = input.channelMax.map { min($0, limit) }
            let migration = try Self.migration(
                source, weights.compactMap { tensors[$0] }, channelMax, input.channelSquare, smoothing)
            let scale = Self.scale(migration.map { zip(channelMax, $0).map(/).max() ?? 0 } ?? limit)
            for name in weights {
                rules.append(
                    .init(
                        tensors: NSRegularExpression.escapedPattern(for: name), bits: 8, block: -1, asymmetric: false,
                        method: .mse, fixedInput: true))
                vectors.append(("\(name).input_scale", [scale]))
                if let migration {
                    factors[name] = migration
                    vectors.append(("\(name).input_smoothing", migration))
                }
            }
        }
        guard !vectors.isEmpty else { throw FormatError("the calibration holds no input of a layer's weights") }
        for layer in calibration.attention {
            let scales = try [layer.query, layer.key, layer.value].map { Self.scale(try Self.range($0, range)) }
            vectors.append(("blk.\(layer.layer).attention_scales", scales))
        }
        rules.append(.init(tensors: ".*", bits: 8, block: 32, asymmetric: true, method: .minmax))
        (recipe, columnFactors, self.vectors) = (Recipe(rules), factors, vectors)
    }

    private static func range(_ ranges: [String: Float], _ method: RangeMethod) throws -> Float {
        guard let range = ranges[method.rawValue], range.isFinite, range >= 0 else {
            throw FormatError("the calibration has no range \"\(method.rawValue)\"")
        }
        return range
    }

    /// What becomes 1. An input that was always zero may have any scale.
    private static func scale(_ range: Float) -> Float { range > 0 ? range / 127 : 1 }

    private static func migration(
        _ source: any ModelSource, _ weights: [SourceTensor], _ channelMax: [Float], _ channelSquare: [Float],
        _ smoothing: Smoothing
    ) throws -> [Float]? {
        guard smoothing != .none else { return nil }
        guard channelSquare.count == channelMax.count else {
            throw FormatError("the calibration is damaged: its channels do not agree")
        }
        let k = channelMax.count
        var values = [Float](repeating: 0, count: weights.reduce(0) { $0 + $1.n } * k)
        try values.withUnsafeMutableBufferPointer { values in
            guard var row = values.baseAddress else { return }
            for tensor in weights {
                for channel in 0..<tensor.n {
                    try source.read(tensor, channel: channel, into: row)
                    row += k
                }
            }
        }
        let migration = OutlierMigration(
            channelMax: channelMax, channelSquare: channelSquare, weights: values)
        if case .exponent(let exponent) = smoothing { return migration.smoothed(exponent) }
        return migration.best()
    }
}
