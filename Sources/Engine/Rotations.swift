import Glibc

/// The angles of a model's rotary embeddings: position * frequency, embedding by embedding.
struct Rotations: Sendable {
    /// Where one embedding's angles lie among a row's, and how many values of a head they turn.
    struct Turn {
        let firstAngle, dimensions: Int
    }

    /// What a position turns, embedding by embedding.
    private let frequencies: [Double]
    /// Each frequency's cosine and sine: what one position adds.
    private let turns: [(cosine: Double, sine: Double)]
    /// What the cosines and sines of each are multiplied by.
    private let amplitudes: [Double]
    private let embeddings: [Turn]

    /// Angles of a row.
    var angles: Int { frequencies.count }

    init(_ rotaries: [Rotary]) {
        var embeddings: [Turn] = []
        for rotary in rotaries {
            let first = embeddings.last.map { $0.firstAngle + $0.dimensions / 2 } ?? 0
            embeddings.append(Turn(firstAngle: first, dimensions: rotary.dimensions))
        }
        self.embeddings = embeddings
        frequencies = rotaries.flatMap(\.frequencies)
        amplitudes = rotaries.flatMap { Array(repeating: Double($0.amplitude), count: $0.dimensions / 2) }
        turns = frequencies.map { (cos($0), sin($0)) }
    }

    func turn(of embedding: Int) -> Turn { embeddings[embedding] }

    /// Positions from one exact angle to the next.
    private static let stride = 8

    /// Writes [rows][angles]. Angles are computed at every eighth position and turned on from there, in double
    /// precision: a position has the same angles wherever it stands, exact to the last bit of a float but for ties.
    func fill(
        _ rows: Range<Int>, cosines: UnsafeMutablePointer<Float>, sines: UnsafeMutablePointer<Float>,
        position: (Int) -> Int
    ) {
        for (index, frequency) in frequencies.enumerated() {
            let (turn, amplitude) = (turns[index], amplitudes[index])
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
                cosines[row * angles + index] = Float(cosine * amplitude)
                sines[row * angles + index] = Float(sine * amplitude)
            }
        }
    }
}
