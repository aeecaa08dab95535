/// Whether an adapter fits a model, by names and shapes alone: asked where it is imported, and again where it is loaded, since
/// either file may be another by then.
public enum AdapterFit {
    /// - Parameters:
    ///   - own: the family that the adapter says it is for.
    ///   - family: the model's.
    ///   - path: of the adapter, for messages.
    /// - Throws: ``FormatError`` where they differ.
    public static func demandFamily(_ own: String?, _ family: String?, path: String) throws {
        guard own != family || own == nil else { return }
        let (own, family) = (own ?? "none", family ?? "none")
        throw FormatError("\(path) is an adapter for \(own.prefix(80)), but the model is \(family.prefix(80))")
    }

    /// The weights that an adapter changes: for each W [n, k] it has A [rank, k] and B [n, rank], and nothing else.
    /// - Parameters:
    ///   - tensors: the adapter's, under the names that a container has for them.
    ///   - model: what it is to be applied to.
    ///   - path: of the adapter, for messages.
    /// - Returns: names of weights in the order of `tensors`; at least one.
    /// - Throws: ``FormatError`` that names the weight which does not fit, and says why.
    public static func weights(
        _ tensors: [TensorShape], of model: some ModelDescription, path: String
    ) throws -> [String] {
        let own = Dictionary(tensors.map { ($0.name, $0) }) { first, _ in first }
        let base = Dictionary(model.shapes.map { ($0.name, $0) }) { first, _ in first }
        var (found, left) = ([String](), Set(own.keys))
        for a in tensors where a.name.hasSuffix(AdapterSource.suffixA) {
            let weight = String(a.name.dropLast(AdapterSource.suffixA.count))
            guard let b = own[weight + AdapterSource.suffixB] else {
                throw FormatError("\(path): \(a.name) has no counterpart \(weight + AdapterSource.suffixB)")
            }
            if let why = misfit(a, b, weight, base[weight]) { throw FormatError("\(path): \(weight): \(why)") }
            left.subtract([a.name, b.name])
            found.append(weight)
        }
        if let other = left.min() { throw FormatError("\(path): the tensor \(other) is no part of a LoRA adapter") }
        guard !found.isEmpty else { throw FormatError("\(path) is an adapter of nothing") }
        return found
    }

    /// Why two matrices are no adapter of a weight; nil where they are.
    /// - Parameter base: the model's tensor of that name.
    private static func misfit(_ a: TensorShape, _ b: TensorShape, _ weight: String, _ base: TensorShape?) -> String? {
        guard isFloats(a), isFloats(b) else { return "the adapter's matrices are no floats; import it again" }
        guard (1...AdapterSource.mostRank).contains(a.n), a.n == b.k else {
            return "A has \(a.n) rows and B \(b.k) columns: a rank of 1 to \(AdapterSource.mostRank) is possible"
        }
        // Where it is the output head, too, rows that are looked up in it would go without.
        guard weight != "token_embd.weight" else {
            return "an adapter of the embedding is not supported; train it without embed_tokens"
        }
        guard !weight.hasSuffix("_exps.weight") else {
            return "an adapter of experts is not supported; train it without them"
        }
        guard let base, case .matrix = base.layout else {
            return weight == "output.weight"
                ? "the model's output head is its embedding, which cannot be adapted; train it without lm_head"
                : "the model has no such matrix: the adapter is one of another model"
        }
        guard base.n == b.n, base.k == a.k else {
            return
                "the adapter is one of a matrix [\(b.n), \(a.k)], the model's is [\(base.n), \(base.k)]: it is one of "
                + "another model"
        }
        return nil
    }

    private static func isFloats(_ shape: TensorShape) -> Bool {
        switch shape.layout {
        case .matrix(.f32), .matrix(.f16), .matrix(.bf16): true
        case .matrix(.quantized), .vector: false
        }
    }
}
