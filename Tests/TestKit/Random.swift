/// Reproducible random numbers: a failing property names its seed by being deterministic.
public struct TestRandom: RandomNumberGenerator {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }

    /// Floats in -1...1, some of them large, so that scales differ between blocks.
    public mutating func floats(_ count: Int) -> [Float] {
        (0..<count).map { _ in
            let value = Float.random(in: -1...1, using: &self)
            return UInt8.random(in: 0...15, using: &self) == 0 ? value * 8 : value
        }
    }

    public mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &self) }
    }
}
