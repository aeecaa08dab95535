import ModelFormat

/// What a model is, in a line: read from its metadata and the shapes of its tensors, without its weights.
public struct ModelSummary: Sendable, Equatable {
    public enum Use: String, Sendable {
        /// Tokens after a prompt.
        case generate
        /// A vector for a text.
        case embed
        /// A score for a document and a query.
        case rerank
    }

    /// `general.architecture`.
    public let architecture: String
    public let use: Use
    /// Weights of all tensors.
    public let parameters: Int
    /// Tokens of a sequence or text at most; 0 where the file does not say.
    public let contextLength: Int
    /// Bits of the matrices, ascending; 16 and 32 for floats.
    public let bits: [Int]
    /// Whether it comes with a chat template.
    public let hasTemplate: Bool

    public init(_ description: some ModelDescription) {
        let metadata = description.metadata
        let name = metadata.string("general.architecture") ?? ""
        architecture = name
        use =
            EncoderModel.isEncoder(metadata) ? EncoderModel.isReranker(description) ? .rerank : .embed : .generate
        let own = metadata.integer("\(name).max_tokens") ?? metadata.integer("\(name).context_length")
        contextLength = min(max(0, own ?? 0), use == .generate ? .max : TextRows.longestText)
        hasTemplate = metadata["tokenizer.chat_template"] != nil
        var (parameters, bits) = (0, Set<Int>())
        for shape in description.shapes {
            // A shape that no file can hold is refused elsewhere.
            parameters &+= shape.n &* shape.k
            switch shape.layout {
            case .vector: break
            case .matrix(.quantized(let scheme)): bits.insert(scheme.bits)
            case .matrix(.f16), .matrix(.bf16): bits.insert(16)
            case .matrix(.f32): bits.insert(32)
            }
        }
        (self.parameters, self.bits) = (parameters, bits.sorted())
    }
}
