import Quantization

/// What an adapter adds to one weight W [n, k]: factor * B A, with A [rank, k] and B [n, rank] (Hu et al. 2021).
struct AdapterPart: Sendable {
    /// Rows of floats, however they are stored.
    struct Rows: Sendable {
        let n, k: Int
        /// Whether halves keep every value.
        let isHalf: Bool
        let read: @Sendable (Int, UnsafeMutablePointer<Float>) throws -> Void
    }

    /// The weight's name, as GGUF has it.
    let weight: String
    let a, b: Rows
    /// alpha / rank, or what the adapter has in its place.
    let factor: Float
    /// Which row of B each output channel is.
    var order = RowOrder.asStored

    /// The two matrices as they lie in a container: the factor is B's.
    var tensors: [SourceTensor] {
        [
            SourceTensor(
                name: weight + AdapterSource.suffixA, isVector: false, n: a.n, k: a.k, encoding: a.isHalf ? .f16 : .f32),
            SourceTensor(
                name: weight + AdapterSource.suffixB, isVector: false, n: b.n, k: b.k,
                encoding: b.isHalf && factor == 1 ? .f16 : .f32),
        ]
    }

    /// Reads an output channel of B.
    func readB(_ channel: Int, into out: UnsafeMutablePointer<Float>) throws {
        try b.read(order(channel), out)
        if factor != 1 { for i in 0..<b.k { out[i] *= factor } }
    }
}
