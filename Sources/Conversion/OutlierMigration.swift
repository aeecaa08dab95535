import Foundation

/// Where the range of an input's outliers goes: factors m_j by which input channel j is divided before it is rounded to
/// int8, and its column of the weights multiplied (SmoothQuant, Xiao et al. 2023). Encoders have a few channels that are
/// ten times as large as the others, and one scale for all would leave the others three bits.
struct OutlierMigration {
    /// Largest magnitude and mean square of the input channels, [k] each.
    let channelMax, channelSquare: [Float]
    /// The weights that read them, [outputs][k].
    let weights: [Float]
    /// Σ w² and max |w| of each column.
    private let columnSquare, columnMax: [Float]

    init(channelMax: [Float], channelSquare: [Float], weights: [Float]) {
        (self.channelMax, self.channelSquare, self.weights) = (channelMax, channelSquare, weights)
        var columnMax = [Float](repeating: 0, count: channelMax.count)
        var columnSquare = columnMax
        let k = channelMax.count
        for (index, w) in weights.enumerated() {
            columnMax[index % k] = max(columnMax[index % k], abs(w))
            columnSquare[index % k] += w * w
        }
        (self.columnMax, self.columnSquare) = (columnMax, columnSquare)
    }

    /// SmoothQuant's choice, equation 4: m_j = max|X_j|^a / max|W_j|^(1-a).
    func smoothed(_ exponent: Float) -> [Float] {
        zip(channelMax, columnMax).map { x, w in
            guard x > 0, w > 0 else { return 1 }
            return min(max(pow(x, exponent) / pow(w, 1 - exponent), 1e-3), 1e3)
        }
    }

    /// Only what is above a cap is migrated.
    func capped(_ cap: Float) -> [Float] { channelMax.map { max($0 / cap, 1) } }

    /// The migration of least predicted error, among caps and exponents, and none.
    func best() -> [Float] {
        let sorted = channelMax.filter { $0 > 0 }.sorted()
        guard let largest = sorted.last else { return channelMax.map { _ in 1 } }
        var candidates: [[Float]] = [channelMax.map { _ in 1 }]
        for share in [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995] {
            let cap = sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]
            if cap < largest { candidates.append(capped(cap)) }
        }
        candidates += stride(from: Float(0.3), through: 1, by: 0.1).map(smoothed)
        return candidates.min { error($0) < error($1) } ?? candidates[0]
    }

    /// Predicted squared error of the outputs, in twelfths: rounding noise of the input (steps s m_j for channel j) seen
    /// through the weights, and of each output channel's weights (steps s_c / m_j) seen through the input.
    private func error(_ m: [Float]) -> Double {
        let k = m.count
        var step: Float = 0
        var (input, seen): (Float, Float) = (0, 0)
        for j in 0..<k {
            step = max(step, channelMax[j] / m[j] / 127)
            input += m[j] * m[j] * columnSquare[j]
            seen += channelSquare[j] / (m[j] * m[j])
        }
        var weight: Float = 0
        weights.withUnsafeBufferPointer { weights in
            for first in stride(from: 0, to: weights.count, by: k) {
                var largest: Float = 0
                for j in 0..<k { largest = max(largest, abs(weights[first + j]) * m[j]) }
                weight += (largest / 127) * (largest / 127)
            }
        }
        return Double(step * step * input) + Double(weight * seen)
    }
}
