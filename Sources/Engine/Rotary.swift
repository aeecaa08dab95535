import Glibc

/// A rotary embedding (Su et al. 2021): pair i of a head turns by position * frequency i. Plain, that is
/// base^(-2i / dimensions); the scalings stretch it for longer contexts than the model was trained with.
public struct Rotary: Sendable {
    public var base: Float
    /// Values of a head that turn, a multiple of 2; the rest of it stays as it is.
    public var dimensions: Int
    /// Linear scaling (Chen et al. 2023): frequencies are divided by this.
    public var factor: Float = 1
    /// What each frequency is divided by besides, as llama 3 has it, [dimensions / 2]; empty for 1.
    public var factors: [Float] = []
    /// LongRoPE (Ding et al. 2024): the factors of contexts longer than some tokens, instead of ``factors``.
    public var long: (factors: [Float], from: Int)?
    /// Only low frequencies are divided by ``factor``.
    public var yarn: YaRN?
    /// What cosines and sines are multiplied by.
    public var amplitude: Float = 1

    public init(base: Float, dimensions: Int) { (self.base, self.dimensions) = (base, dimensions) }

    /// With the factors that contexts of some tokens take, all their positions alike: keys are cached as they turned once.
    func chosen(contextLimit: Int) -> Rotary {
        guard let long, contextLimit > long.from else { return self }
        var rotary = self
        rotary.factors = long.factors
        return rotary
    }

    /// What a position turns each pair by, [dimensions / 2].
    var frequencies: [Double] {
        (0..<dimensions / 2).map { i in
            let plain =
                pow(Double(base), -Double(2 * i) / Double(dimensions)) / Double(i < factors.count ? factors[i] : 1)
            let kept = yarn?.kept(i, base: Double(base), dimensions: dimensions) ?? 0
            return plain / Double(factor) * (1 - kept) + plain * kept
        }
    }
}

/// YaRN (Peng et al. 2023, equations 17 to 22): pairs that turn often within the original context keep their frequency,
/// those that turn seldom are stretched, with a ramp between the two.
public struct YaRN: Sendable {
    /// Tokens that the model was first trained with.
    public var originalContext: Int
    /// Turns within that from which on a frequency is kept, and up to which it is stretched.
    public var fast: Float = 32
    public var slow: Float = 1
    /// Whether the ramp's ends are whole pairs, as in the paper's code.
    public var wholePairs = true

    public init(originalContext: Int) { self.originalContext = originalContext }

    /// The ramp's amplitude, sqrt(1/t) of equation 22.
    static func amplitude(factor: Float) -> Float { factor > 1 ? Float(0.1 * log(Double(factor)) + 1) : 1 }

    /// The share of pair i's own frequency that is kept, 0...1.
    func kept(_ i: Int, base: Double, dimensions: Int) -> Double {
        func pair(turns: Float) -> Double {
            Double(dimensions) * log(Double(originalContext) / (Double(turns) * 2 * .pi)) / (2 * log(base))
        }
        let (first, last) = (pair(turns: fast), pair(turns: slow))
        let low = max(wholePairs ? first.rounded(.down) : first, 0)
        let high = min(wholePairs ? last.rounded(.up) : last, Double(dimensions - 1))
        return 1 - min(max((Double(i) - low) / max(high - low, 0.001), 0), 1)
    }
}
