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

    /// - Parameters:
    ///   - base: the model's matrices by name.
    ///   - path: of the adapter, for messages.
    /// - Throws: ``FormatError`` where it does not fit the model.
    func demandFit(_ base: [String: TensorShape], path: String) throws {
        func refusal(_ why: String) -> FormatError { FormatError("\(path): \(weight): \(why)") }
        guard (1...AdapterSource.mostRank).contains(a.n), a.n == b.k else {
            throw refusal(
                "A has \(a.n) rows and B \(b.k) columns: a rank of 1 to \(AdapterSource.mostRank) is possible")
        }
        guard factor.isFinite else { throw refusal("its alpha is no number") }
        guard weight != "token_embd.weight" else {
            throw refusal("an adapter of the embedding is not supported; train it without embed_tokens")
        }
        guard !weight.hasSuffix("_exps.weight") else {
            throw refusal("an adapter of experts is not supported; train it without them")
        }
        guard let shape = base[weight], case .matrix = shape.layout else {
            throw refusal(
                weight == "output.weight"
                    ? "the model's output head is its embedding, which cannot be adapted; train it without lm_head"
                    : "the model has no such matrix: the adapter is one of another model")
        }
        guard shape.n == b.n, shape.k == a.k else {
            throw refusal(
                "the adapter is one of a matrix [\(b.n), \(a.k)], the model's is [\(shape.n), \(shape.k)]: it is one of "
                    + "another model")
        }
    }
}
