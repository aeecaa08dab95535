/// The tensors of a checkpoint under the names that a model on its own has for them; remembers which are used.
final class CheckpointTensors {
    let weights: FolderWeights
    let quantization: FolderQuantization
    /// Whether the model makes embeddings, for which it needs no output head.
    let isEmbedder: Bool
    /// What users should know of the checkpoint.
    private(set) var notices: [String] = []
    private var used: Set<String> = []
    private let known: Set<String>
    private let spellings: (String) -> [String]

    /// - Parameter spellings: how a name may be spelled, where the model is a part of another or from an older program.
    init(
        _ weights: FolderWeights, _ quantization: FolderQuantization = .none, isEmbedder: Bool = false,
        spellings: @escaping (String) -> [String]
    ) {
        (self.weights, self.quantization, self.spellings) = (weights, quantization, spellings)
        self.isEmbedder = isEmbedder
        known = Set(weights.names)
    }

    /// What stands before a decoder's layers, and before its output head, by the kind of checkpoint: the model alone, in one
    /// that sees as well (as older and as newer programs save it), and without its head.
    private static let decoderPlaces: [(layers: String, head: String)] = [
        ("model.", ""), ("language_model.model.", "language_model."),
        ("model.language_model.", "model.language_model."), ("", ""),
    ]

    /// How a decoder's tensor may be called, by its name in a model alone.
    static func decoder(_ name: String) -> [String] {
        guard name.hasPrefix("model.") else { return decoderPlaces.map { $0.head + name } }
        return decoderPlaces.map { $0.layers + name.dropFirst("model.".count) }
    }

    /// The other way: what a tensor or module of a decoder may be called in a model alone, by its name in some checkpoint.
    static func alone(_ name: String) -> [String] {
        decoderPlaces.flatMap { place in
            let inLayers = name.hasPrefix(place.layers) ? "model." + name.dropFirst(place.layers.count) : nil
            return [inLayers, name.hasPrefix(place.head) ? String(name.dropFirst(place.head.count)) : nil]
        }.compactMap { $0 }
    }

    /// A tensor's name in its file; nil where there is none.
    func spelled(_ name: String) -> String? { spellings(name).first(where: known.contains) }

    func has(_ name: String) -> Bool { spelled(name) != nil }

    /// Whether there is a weight of that name, of floats or quantized.
    func hasWeight(_ module: String) -> Bool {
        [".weight", ".qweight", ".weight_packed"].contains { has(module + $0) }
    }

    /// A tensor's name in its file, which is thereby used.
    func use(_ name: String) throws -> String {
        guard let spelled = spelled(name) else { throw FormatError("\(weights.path): the tensor \(name) is missing") }
        used.insert(spelled)
        return spelled
    }

    /// A tensor of floats.
    func floats(_ name: String, transposed: Bool = false) throws -> any FolderMatrix {
        try FloatMatrix(weights, use(name), transposed: transposed)
    }

    /// The weight of a module, of floats or as the checkpoint's quantization has it.
    func weight(_ module: String) throws -> any FolderMatrix {
        try quantization.matrix(module, self) ?? floats(module + ".weight")
    }

    func notice(_ text: String) {
        if !notices.contains(text) { notices.append(text) }
    }

    /// - Throws: ``FormatError`` that names the first tensor which nothing has asked for.
    func finish(_ family: String, harmless: (String) -> Bool) throws {
        guard let unknown = known.filter({ !used.contains($0) && !harmless($0) && !quantization.isHarmless($0) }).min()
        else { return }
        throw FormatError(
            "\(weights.path): the tensor \(unknown) is not used by \(family) as Ebb runs it; it would be left out, and "
                + "results differ")
    }
}
