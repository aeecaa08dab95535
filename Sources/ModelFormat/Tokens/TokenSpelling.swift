/// How a GGUF file writes its tokens.
public enum TokenSpelling: Sendable {
    /// Bytes, each as a character of GPT-2's alphabet.
    case byteLevel
    /// Text; spaces are U+2581, bytes that are tokens of their own `<0xHH>`.
    case text

    /// Pre-tokenizers of byte-pair encoders whose tokens are text all the same.
    private static let textual: Set<String> = ["gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace"]

    /// A tokenizer.json's byte-pair encoder has text for tokens.
    static let textKey = "tokenizer.ebb.text_tokens"

    public init(_ metadata: Metadata) {
        let isByteLevel =
            metadata.string("tokenizer.ggml.model") == "gpt2" && metadata.bool(Self.textKey) != true
            && !Self.textual.contains(metadata.string("tokenizer.ggml.pre") ?? "")
        self = isByteLevel ? .byteLevel : .text
    }

    /// Appends the bytes that a token's text stands for.
    /// - Returns: false where merges cannot make the token, since it has characters outside GPT-2's alphabet.
    @discardableResult
    func spell(_ text: UnsafeRawBufferPointer, into bytes: inout [UInt8]) -> Bool {
        switch self {
        case .byteLevel: return ByteLevel.spell(text, into: &bytes)
        case .text:
            bytes.append(contentsOf: text)
            return true
        }
    }
}
