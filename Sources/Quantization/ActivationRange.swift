import CKernels

/// How the range of an activation is chosen from calibration texts: the magnitude that becomes 127.
public enum RangeMethod: String, Sendable, Codable, CaseIterable {
    /// The largest magnitude seen.
    case max
    /// The magnitude that all but one in 10,000 values stay below.
    case percentile
    /// The clipping that keeps most information (Migacz 2017, the entropy calibration of TensorRT).
    case kl
    /// An exponential moving average of the largest magnitudes of pieces (Jacob et al. 2018, section 3.1).
    case ema
    /// The clipping with the least squared error, of rounding and of clipping together.
    case mse
}

/// Magnitudes of an activation, in equal bins up to the largest.
public struct MagnitudeHistogram: Sendable {
    public let limit: Float
    private var bins: [Double]
    private var total = 0.0

    private static let binCount = 2048
    private static let levels = 128
    private static let percentile = 0.9999

    /// - Parameter limit: the largest magnitude, found before.
    public init(limit: Float) {
        self.limit = limit
        bins = Array(repeating: 0, count: Self.binCount)
    }

    public mutating func add(_ values: UnsafePointer<Float>, count: Int) {
        guard limit > 0 else { return }
        let factor = Float(Self.binCount) / limit
        for i in 0..<count {
            let bin = abs(values[i]) * factor
            bins[bin.isFinite ? min(Int(bin), Self.binCount - 1) : Self.binCount - 1] += 1
        }
        total += Double(count)
    }

    private func magnitude(_ bin: Int) -> Float { limit * Float(bin) / Float(Self.binCount) }

    /// The range by a method; `max` and `ema` are known without a histogram.
    public func range(_ method: RangeMethod, ema: Float) -> Float {
        guard limit > 0, total > 0 else { return 0 }
        switch method {
        case .max: return limit
        case .ema: return min(ema, limit)
        case .percentile: return percentileRange()
        case .kl: return leastInformationLost()
        case .mse: return leastSquaredError()
        }
    }

    private func percentileRange() -> Float {
        var sum = 0.0
        for bin in bins.indices {
            sum += bins[bin]
            if sum >= total * Self.percentile { return magnitude(bin + 1) }
        }
        return limit
    }

    /// Δ²/12 for what is rounded, the distance squared for what is clipped.
    private func leastSquaredError() -> Float {
        var best: (error: Double, range: Float) = (.infinity, limit)
        for end in stride(from: Self.binCount / 16, through: Self.binCount, by: Self.binCount / 128) {
            let range = Double(magnitude(end))
            let step = range / 127
            var error = 0.0
            for bin in bins.indices where bins[bin] > 0 {
                let value = (Double(bin) + 0.5) * Double(limit) / Double(Self.binCount)
                error += bins[bin] * (bin < end ? step * step / 12 : (value - range) * (value - range))
            }
            if error < best.error { best = (error, Float(range)) }
        }
        return best.range
    }

    private func leastInformationLost() -> Float {
        var best: (divergence: Double, end: Int) = (.infinity, Self.binCount)
        for end in stride(from: Self.levels, through: Self.binCount, by: 16) {
            let divergence = divergence(end)
            if divergence < best.divergence { best = (divergence, end) }
        }
        return magnitude(best.end)
    }

    /// KL between the distribution clipped after `end` bins and the same in 128 levels.
    private func divergence(_ end: Int) -> Double {
        var clipped = Array(bins[..<end])
        clipped[end - 1] += bins[end...].reduce(0, +)
        var divergence = 0.0
        let width = Double(end) / Double(Self.levels)
        for level in 0..<Self.levels {
            let range = Int(Double(level) * width)..<max(Int(Double(level + 1) * width), Int(Double(level) * width) + 1)
            let inside = range.clamped(to: 0..<end)
            // The quantized distribution does not see what was clipped.
            let mass = bins[inside].reduce(0, +)
            let filled = Double(bins[inside].count { $0 > 0 })
            for bin in inside where clipped[bin] > 0 {
                let p = clipped[bin] / total
                let q = bins[bin] > 0 ? mass / filled / total : 1e-9
                divergence += p * (ebb_log(p) - ebb_log(q))
            }
        }
        return divergence
    }
}
