import Glibc

/// How far two outputs of a model are apart.
public enum OutputDistance {
    /// KL(softmax a ‖ softmax b) of two rows of logits, nats, given log Σ exp of each.
    public static func kl(
        _ a: UnsafeMutableBufferPointer<Float>, _ b: UnsafeMutableBufferPointer<Float>,
        logSumExp: (a: Double, b: Double)
    ) -> Double {
        var sum = 0.0
        for i in 0..<min(a.count, b.count) {
            let p = Double(a[i]) - logSumExp.a
            // Terms below e^-30 add nothing that could be seen.
            if p > -30 { sum += exp(p) * (p - (Double(b[i]) - logSumExp.b)) }
        }
        return sum
    }

    /// The cosine between two embeddings; 0 where one of them is nothing but zeros.
    public static func cosine(_ a: [Float], _ b: [Float]) -> Double {
        var (ab, aa, bb) = (0.0, 0.0, 0.0)
        for (x, y) in zip(a, b) {
            ab += Double(x) * Double(y)
            aa += Double(x) * Double(x)
            bb += Double(y) * Double(y)
        }
        return aa > 0 && bb > 0 ? ab / (aa * bb).squareRoot() : 0
    }
}
