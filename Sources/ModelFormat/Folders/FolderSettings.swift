/// A configuration whose every key is read, known not to matter, or refused by its name.
final class FolderSettings {
    let path: String
    private let object: JSONObject
    private var used: Set<String> = []
    private var harmless: Set<String> = []
    private var neutral: [String: [KnownJSON.Value]] = [:]
    private var inner: [FolderSettings] = []

    init(_ path: String, _ object: JSONObject) { (self.path, self.object) = (path, object) }

    /// The value of a key, which is thereby known; nil where it is missing or null.
    subscript(key: String) -> JSONNode? {
        used.insert(key)
        return object[key].flatMap { $0.isNull ? nil : $0 }
    }

    var keys: [String] { object.keys }

    func refusal(_ key: String, _ why: String) -> FormatError { FormatError("\(path): \"\(key)\" \(why)") }

    private func value<T>(_ key: String, _ kind: String, _ read: (JSONNode) -> T?) throws -> T? {
        guard let node = self[key] else { return nil }
        guard let value = read(node) else { throw refusal(key, "is \(KnownJSON.Value(node)), not \(kind)") }
        return value
    }

    func number(_ key: String) throws -> Double? {
        try value(key, "a number") { $0.number.flatMap { $0.isFinite ? $0 : nil } }
    }

    func flag(_ key: String) throws -> Bool? { try value(key, "true or false") { $0.bool } }
    func text(_ key: String) throws -> String? { try value(key, "text") { $0.string } }
    func texts(_ key: String) throws -> [String]? {
        try value(key, "a list of texts") { node in
            node.array.flatMap { items in
                let texts = items.compactMap(\.string)
                return texts.count == items.count ? texts : nil
            }
        }
    }

    func numbers(_ key: String) throws -> [Double]? {
        try value(key, "a list of numbers") { node in
            node.array.flatMap { items in
                let numbers = items.compactMap(\.number)
                return numbers.count == items.count ? numbers : nil
            }
        }
    }

    func count(_ key: String) throws -> Int? {
        try value(key, "a count") { $0.int.flatMap { (0...Int(Int32.max)).contains($0) ? $0 : nil } }
    }

    /// A count that a model cannot be without, from 1 to `limit`.
    func required(_ key: String, limit: Int = Int(Int32.max), usual: Int? = nil) throws -> Int {
        guard let count = try count(key) ?? usual else { throw FormatError("\(path) lacks \"\(key)\"") }
        guard (1...limit).contains(count) else { throw refusal(key, "is \(count): 1 to \(limit) are possible") }
        return count
    }

    /// An object in this one; what it says is accounted for with the rest.
    func settings(_ key: String) throws -> FolderSettings? {
        try value(key, "an object") { $0.object }.map { object in
            let settings = FolderSettings("\(path): \(key)", object)
            inner.append(settings)
            return settings
        }
    }

    /// Keys that no result depends on.
    func allow(_ keys: Set<String>) { harmless.formUnion(keys) }

    /// Keys that change nothing with these values or null, and are refused with others.
    func demand(_ values: [String: [KnownJSON.Value]]) {
        for (key, allowed) in values { neutral[key] = [.null] + allowed }
    }

    /// - Throws: ``FormatError`` that names the first key that was not asked for.
    func finish() throws {
        try KnownJSON(used: used, harmless: harmless, neutral: neutral).check(object, of: path)
        for settings in inner { try settings.finish() }
    }
}

extension FolderSettings {
    /// Keys of a decoder's config.json that no result depends on.
    static let harmless = KnownJSON.anyHarmless.union([
        // With what it was written.
        "unsloth_version", "unsloth_fixed",
        // Training.
        "embd_pdrop", "resid_pdrop", "hidden_dropout", "router_aux_loss_coef", "output_router_logits",
        "router_jitter_noise",
        // How the original is run, not what comes out.
        "pretraining_tp", "cache_implementation",
        // The tokenizer says it.
        "pad_token_id",
    ])

    /// Keys that change nothing with these values.
    static let neutral: [String: [KnownJSON.Value]] = KnownJSON.anyNeutral.merging([
        "tie_encoder_decoder": [.bool(false)], "auto_map": [.empty], "is_llama_config": [.bool(true)],
        "rope_interleaved": [.bool(false)],
    ]) { _, own in own }
}
