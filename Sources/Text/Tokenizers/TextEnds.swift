import ModelFormat

/// The tokens that go around a text, and those that end one that a model writes.
struct TextEnds {
    /// BOS, or what BERT calls [CLS].
    let first: Int32?
    /// EOS, or [SEP].
    let last: Int32?
    /// Whether the last one is put after a text where the file does not say.
    let addsLast: Bool
    let endOfGeneration: Set<Int32>

    init(_ metadata: Metadata, _ vocabulary: Vocabulary) {
        let model = metadata.string("tokenizer.ggml.model")
        func token(_ names: String..., usual: Int? = nil) -> Int32? {
            let named = names.compactMap { metadata.integer("tokenizer.ggml.\($0)_token_id") }.first
            return (named ?? usual).flatMap { (0..<vocabulary.count).contains($0) ? Int32($0) : nil }
        }
        // What a file leaves out is what the first model of its kind had (llama.cpp, `llama_vocab`).
        switch model {
        case "bert":
            first = token("bos", "cls", usual: 101)
            last = token("eos", "separator", "seperator", usual: 102)
        case "llama": (first, last) = (token("bos", usual: 1), token("eos", usual: 2))
        case "t5": (first, last) = (token("bos"), token("eos", usual: 1))
        default: (first, last) = (token("bos"), token("eos"))
        }
        addsLast = model == "bert" || model == "t5"
        endOfGeneration = Self.endTokens(vocabulary, [last, token("eot"), token("eom")])
    }

    /// Chat models end a turn with one of these, whatever their metadata calls the end.
    private static let endTexts = [
        "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end_of_text|>", "<|end|>",
        "</s>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
        "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>", "[e~[",
    ]

    private static func endTokens(_ vocabulary: Vocabulary, _ named: [Int32?]) -> Set<Int32> {
        var found: [String: Int32] = [:]
        for text in endTexts {
            guard let id = vocabulary.id(Array(text.utf8)) else { continue }
            if [.control, .userDefined].contains(vocabulary.kind(id)) { found[text] = id }
        }
        func has(_ texts: String...) -> Bool { texts.allSatisfy { found[$0] != nil } }
        // There a message ends with <|end|>, and a turn with one of the others.
        if has("<|return|>", "<|call|>") || has("<|calls|>", "<|flush|>") { found["<|end|>"] = nil }
        // Gemma 4 has </s> in its vocabulary, and does not end with it.
        if has("<|tool_response>") { found["</s>"] = nil }
        return Set(found.values).union(named.compactMap { $0 })
    }
}
