import Foundation
import ModelFormat
import Quantization

/// Full-graph INT8: every linear layer has 8-bit weights with a scale a channel and an input with fixed scales, and an
/// encoder's attention products run in int8 too. Embeddings and output heads keep blocks of 32.
public struct FullInt8 {
    public let recipe: Recipe
    /// Factors of SmoothQuant (Xiao et al. 2023, equation 4) in the weights' columns: m_j = max|X_j|^a / max|W_j|^(1-a).
    public let columnFactors: [String: [Float]]
    /// `NAME.input_scale`, `NAME.input_smoothing`, `blk.N.attention_scales`.
    public let vectors: [(name: String, values: [Float])]

    /// - Parameters:
    ///   - smoothing: SmoothQuant's exponent, 0...1; nil leaves the outliers where they are.
    ///   - keep: matrices whose whole name matches stay floats.
    /// - Throws: ``FormatError`` where the calibration belongs to another model.
    public init(
        _ source: any ModelSource, _ calibration: Calibration, range: RangeMethod, smoothing: Float? = nil,
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
            let migration = try smoothing.map {
                try Self.migration(source, weights.compactMap { tensors[$0] }, input, exponent: $0)
            }
            let scale = try Self.scale(input, range, migration)
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
            let scales = try [layer.query, layer.key, layer.value].map { try Self.scale($0, range) }
            vectors.append(("blk.\(layer.layer).attention_scales", scales))
        }
        rules.append(.init(tensors: ".*", bits: 8, block: 32, asymmetric: true, method: .minmax))
        (recipe, columnFactors, self.vectors) = (Recipe(rules), factors, vectors)
    }

    /// What an input is divided by before it is rounded. A migration changes the range as it changes the largest value.
    private static func scale(_ input: Calibration.Input, _ range: RangeMethod, _ migration: [Float]?) throws -> Float {
        var scale = try scale(input.ranges, range)
        if let migration {
            let before = input.channelMax.max() ?? 0
            let after = zip(input.channelMax, migration).map { $0 / $1 }.max() ?? 0
            if before > 0, after > 0 { scale *= after / before }
        }
        return scale
    }

    private static func scale(_ ranges: [String: Float], _ method: RangeMethod) throws -> Float {
        guard let range = ranges[method.rawValue], range.isFinite, range >= 0 else {
            throw FormatError("the calibration has no range \"\(method.rawValue)\"")
        }
        // An input that was always zero may have any scale.
        return range > 0 ? range / 127 : 1
    }

    private static func migration(
        _ source: any ModelSource, _ weights: [SourceTensor], _ input: Calibration.Input, exponent: Float
    ) throws -> [Float] {
        var largest = [Float](repeating: 0, count: input.channelMax.count)
        let row = UnsafeMutablePointer<Float>.allocate(capacity: largest.count)
        defer { row.deallocate() }
        for tensor in weights {
            for channel in 0..<tensor.n {
                try source.read(tensor, channel: channel, into: row)
                for i in largest.indices { largest[i] = max(largest[i], abs(row[i])) }
            }
        }
        return zip(input.channelMax, largest).map { x, w in
            guard x > 0, w > 0 else { return 1 }
            return min(max(pow(x, exponent) / pow(w, 1 - exponent), 1e-3), 1e3)
        }
    }
}
