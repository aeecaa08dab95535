import Glibc

/// The angles of rotary embeddings: position * base^(-2i / head_dim), as ``Rotary`` says, for each of some embeddings and
/// each i below head_dim / 2.
struct Rotations: Sendable {
    /// What a position turns, embedding by embedding.
    private let frequencies: [Double]
    /// Each frequency's cosine and sine: what one position adds.
    private let turns: [(cosine: Double, sine: Double)]

    /// Angles of a row.
    var angles: Int { frequencies.count }

    init(_ rotaries: [Rotary], headDim: Int) {
        frequencies = rotaries.flatMap { rotary in
            (0..<headDim / 2).map { i in
                let factor = Double(rotary.factor) * Double(i < rotary.factors.count ? rotary.factors[i] : 1)
                return pow(Double(rotary.base), -Double(2 * i) / Double(headDim)) / factor
            }
        }
        turns = frequencies.map { (cos($0), sin($0)) }
    }

    /// Positions from one exact angle to the next.
    private static let stride = 8

    /// Writes [rows][angles]. Angles are computed at every eighth position and turned on from there, in double
    /// precision: a position has the same angles wherever it stands, exact to the last bit of a float but for ties.
    func fill(
        _ rows: Range<Int>, cosines: UnsafeMutablePointer<Float>, sines: UnsafeMutablePointer<Float>,
        position: (Int) -> Int
    ) {
        for (index, frequency) in frequencies.enumerated() {
            let turn = turns[index]
            var (cosine, sine, at) = (1.0, 0.0, 0)
            for row in rows {
                let place = position(row)
                if place < at || place / Self.stride != at / Self.stride || at == 0 {
                    at = place / Self.stride * Self.stride
                    (cosine, sine) = (cos(Double(at) * frequency), sin(Double(at) * frequency))
                }
                while at < place {
                    (cosine, sine) = (cosine * turn.cosine - sine * turn.sine, sine * turn.cosine + cosine * turn.sine)
                    at += 1
                }
                cosines[row * angles + index] = Float(cosine)
                sines[row * angles + index] = Float(sine)
            }
        }
    }
}
