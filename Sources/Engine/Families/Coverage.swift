import ModelFormat

/// Accounts for everything that a model file says: each metadata key and each tensor is used, known not to matter, or
/// refused by name. What is left out would make another model of it.
struct Coverage {
    let path: String
    let metadata: Metadata
    let architecture: String

    /// - Throws: ``FormatError``.
    func check(_ keys: KnownKeys) throws {
        try demandModel()
        for key in metadata.keys.sorted() {
            guard let dot = key.firstIndex(of: ".") else { continue }
            let (space, name) = (String(key[..<dot]), String(key[key.index(after: dot)...]))
            if space == architecture {
                try check(key, name, keys)
            } else if let known = KnownKeys.general(
                space, tokenizer: metadata.string("tokenizer.ggml.model"),
                isEncoder: ModelFamilies.encoderFamily(metadata) != nil), !isDescription(space, name, known)
            {
                try check(key, name, known)
            }
        }
        try demandTokens()
    }

    /// - Parameter used: the names that the family has asked for.
    /// - Throws: ``FormatError``.
    func check(tensors: some Sequence<String>, used: Set<String>) throws {
        guard let unknown = tensors.filter({ !used.contains($0) }).min() else { return }
        throw FormatError(
            "\(path): \(unknown) is not used by \(architecture) as Ebb runs it; it would be left out, and results differ"
        )
    }

    private func check(_ key: String, _ name: String, _ known: KnownKeys) throws {
        if known.used.contains(name) || known.harmless.contains(name) { return }
        guard let allowed = known.neutral[name] else {
            throw FormatError(
                "\(path): Ebb does not know the setting \(key)\(said(key)), and would compute as if it were not there")
        }
        guard let value = number(key), allowed.contains(value) else {
            let values = allowed.map { "\($0 == $0.rounded() ? "\(Int($0))" : "\($0)")" }.joined(separator: " or ")
            throw FormatError("\(path): the setting \(key)\(said(key)) is not supported (\(values) is)")
        }
    }

    /// Whether a key of `general` or of the program's own only describes.
    private func isDescription(_ space: String, _ name: String, _ known: KnownKeys) -> Bool {
        switch space {
        case "general": known.neutral[name] == nil
        case "tokenizer": name.hasPrefix("ebb.") || name.hasPrefix("chat_template.")
        default: false
        }
    }

    private func number(_ key: String) -> Float? { metadata.bool(key).map { $0 ? 1 : 0 } ?? metadata.float(key) }

    private func said(_ key: String) -> String {
        if let text = metadata.string(key) { return " (\"\(text.prefix(80))\")" }
        if let flag = metadata.bool(key) { return " (\(flag))" }
        return metadata.float(key).map { " (\($0 == $0.rounded() && abs($0) < 1e9 ? "\(Int($0))" : "\($0)"))" } ?? ""
    }

    /// Adapters, vocabularies and measurements have the keys of the model that they belong to.
    private func demandModel() throws {
        if let type = metadata.string("general.type"), type != "model" {
            throw FormatError("\(path) holds no model: its general.type is \"\(type.prefix(80))\"")
        }
    }

    /// Tokens that are put before texts, looked for or counted on have to exist.
    private func demandTokens() throws {
        guard let count = Vocabulary.count(metadata) else { return }
        for name in ["bos", "eos", "eot", "eom", "unknown"] {
            let key = "tokenizer.ggml.\(name)_token_id"
            guard metadata[key] != nil, metadata.integer(key).map({ !(0..<count).contains($0) }) ?? true else {
                continue
            }
            throw FormatError("\(path): \(key)\(said(key)) is not in the vocabulary of \(count) tokens")
        }
    }
}
