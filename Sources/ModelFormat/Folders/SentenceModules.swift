import Glibc

/// What sentence-transformers puts behind (and around) an encoder: the chain of modules.json, with the settings of each.
/// A plain folder has none of it: mean pooling, and embeddings of length 1, as nearly all users want.
struct SentenceModules: Sendable {
    /// GGUF's numbers.
    enum Pooling: UInt32 { case mean = 1, cls = 2, last = 3 }

    /// A linear layer that embeddings pass, with an activation after it.
    struct Dense: Sendable {
        enum Activation: String { case identity, tanh }

        let folder: String
        let inputs, outputs: Int
        let hasBias: Bool
        let activation: Activation

        /// Its weights, as `dense.N.weight` and `dense.N.bias`.
        func tensors(_ index: Int, _ weights: FolderWeights) throws -> [FolderTensor] {
            let names = ["weight"] + (hasBias ? ["bias"] : [])
            if let unknown = weights.names.filter({ !names.map { "linear." + $0 }.contains($0) }).min() {
                throw FormatError("\(weights.path): the tensor \(unknown) is not used")
            }
            let tensors = try names.map {
                try FolderTensor("dense.\(index).\($0)", [try FloatMatrix(weights, "linear.\($0)")])
            }
            guard !tensors[0].source.isVector, tensors[0].source.n == outputs, tensors[0].source.k == inputs else {
                throw FormatError("\(weights.path): linear.weight is not [\(outputs), \(inputs)], as config.json says")
            }
            return tensors
        }
    }

    /// Whether a file says that rows are pooled, which makes an embedding model of a decoder.
    let isSaid: Bool
    let transformerFolder: String
    let pooling: Pooling
    let denses: [Dense]
    let normalizes: Bool
    /// Tokens of a text at most; nil where no file says so.
    let maxTokens: Int?

    private struct Module: Decodable {
        var type: String
        var path: String
        /// `sentence_transformers.models.Pooling` and its later places.
        var kind: String { String(type.split(separator: ".").last ?? "") }
    }

    /// What may stand before texts.
    private let prompts: Prompts

    /// - Throws: ``FormatError`` for a module or a setting that Ebb does not compute.
    init(folder: String) throws {
        let prompts = try Self.prompts(folder)
        self.prompts = prompts
        let hasPrompts = prompts.prompts?.values.contains { !$0.isEmpty } ?? false
        guard let file = try FolderFile(optional: folder, "modules.json") else {
            transformerFolder = folder
            (denses, normalizes) = ([], true)
            let said = try FolderFile(optional: folder, "1_Pooling/config.json").map {
                try Self.pooling($0, hasPrompts: hasPrompts)
            }
            (pooling, isSaid) = (said ?? .mean, said != nil)
            maxTokens = try Self.maxTokens(folder)
            return
        }
        isSaid = true
        let modules = try file.decode([Module].self)
        func place(_ module: Module) throws -> String {
            let parts = module.path.split(separator: "/", omittingEmptySubsequences: false)
            guard !module.path.hasPrefix("/"), !parts.contains("..") else {
                throw FormatError("\(file.path): the path \"\(module.path)\" leaves the folder")
            }
            return module.path.isEmpty ? folder : folder + "/" + module.path
        }
        let kinds = modules.map(\.kind).filter { $0 != "Dropout" }
        let known = ["Transformer", "Pooling", "Dense", "Normalize"]
        if let unknown = kinds.first(where: { !known.contains($0) }) {
            throw FormatError(
                "\(file.path): the module \(unknown) is not supported (\(known.joined(separator: ", ")) are)")
        }
        let order = kinds.map { known.firstIndex(of: $0) ?? 0 }
        guard order == order.sorted(), kinds.count(where: { $0 == "Transformer" }) == 1,
            kinds.count(where: { $0 == "Pooling" }) == 1, kinds.count(where: { $0 == "Normalize" }) <= 1
        else {
            throw FormatError(
                "\(file.path): the modules \(kinds.joined(separator: ", ")) are not supported: one Transformer, one Pooling, "
                    + "any number of Dense and at most one Normalize are, in this order")
        }
        var (place0, pooling, denses) = (folder, Pooling.mean, [Dense]())
        for module in modules {
            switch module.kind {
            case "Transformer": place0 = try place(module)
            case "Pooling":
                pooling = try Self.pooling(
                    try FolderFile(try place(module), "config.json"), hasPrompts: hasPrompts)
            case "Dense": denses.append(try Self.dense(try place(module)))
            default: break
            }
        }
        (transformerFolder, self.pooling, self.denses) = (place0, pooling, denses)
        normalizes = kinds.contains("Normalize")
        maxTokens = try Self.maxTokens(place0)
    }

    /// Checks that each dense layer takes what comes before it.
    func demandWidths(from hidden: Int) throws {
        var width = hidden
        for dense in denses {
            guard dense.inputs == width else {
                throw FormatError(
                    "\(dense.folder)/config.json: in_features is \(dense.inputs), but embeddings have \(width)")
            }
            width = dense.outputs
        }
    }

    /// The dense layers' weights, and their bytes.
    func denseTensors() throws -> (tensors: [FolderTensor], byteCount: Int) {
        try denses.enumerated().reduce(into: ([], 0)) { all, dense in
            let weights = try FolderWeights(folder: dense.element.folder)
            all.0 += try dense.element.tensors(dense.offset, weights)
            all.1 += weights.byteCount
        }
    }

    /// What the container says of it.
    func describe(_ metadata: inout FolderMetadata) {
        metadata[".pooling_type"] = .count(pooling.rawValue)
        if !denses.isEmpty { metadata[".dense.activations"] = .texts(denses.map(\.activation.rawValue)) }
        metadata[".normalize"] = .flag(normalizes)
        let named = (prompts.prompts ?? [:]).sorted { $0.key < $1.key }
        guard !named.isEmpty else { return }
        metadata["ebb.prompt.names"] = .texts(named.map(\.key))
        metadata["ebb.prompt.texts"] = .texts(named.map(\.value))
        if let name = prompts.default_prompt_name { metadata["ebb.prompt.default"] = .text(name) }
    }

    // MARK: Pooling

    private struct PoolingConfig: Decodable {
        var pooling_mode: String?
        var pooling_mode_cls_token, pooling_mode_mean_tokens, pooling_mode_max_tokens: Bool?
        var pooling_mode_mean_sqrt_len_tokens, pooling_mode_weightedmean_tokens, pooling_mode_lasttoken: Bool?
        var include_prompt: Bool?

        /// sentence-transformers takes the mean where nothing else is said.
        var modes: [String] {
            if let pooling_mode { return [pooling_mode] }
            return [
                ("cls", pooling_mode_cls_token ?? false), ("mean", pooling_mode_mean_tokens ?? true),
                ("max", pooling_mode_max_tokens ?? false),
                ("mean_sqrt_len_tokens", pooling_mode_mean_sqrt_len_tokens ?? false),
                ("weightedmean", pooling_mode_weightedmean_tokens ?? false),
                ("lasttoken", pooling_mode_lasttoken ?? false),
            ].filter(\.1).map(\.0)
        }
    }

    private static let knownPooling = KnownJSON(
        used: [
            "pooling_mode", "pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_max_tokens",
            "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken",
            "include_prompt",
        ],
        harmless: ["word_embedding_dimension", "embedding_dimension"], neutral: [:])

    /// - Parameter hasPrompts: texts may have a prompt before them, which is pooled with them here.
    private static func pooling(_ file: FolderFile, hasPrompts: Bool) throws -> Pooling {
        try knownPooling.check(file)
        let config = try file.decode(PoolingConfig.self)
        guard config.include_prompt ?? true || !hasPrompts else {
            throw FormatError("\(file.path): pooling without the prompt (include_prompt false) is not supported")
        }
        let modes = config.modes
        switch modes {
        case ["mean"]: return .mean
        case ["cls"]: return .cls
        case ["lasttoken"]: return .last
        default:
            let said = modes.isEmpty ? "none" : modes.joined(separator: " and ")
            throw FormatError(
                "\(file.path): pooling by \(said) is not supported (mean, cls and lasttoken are, one of them)")
        }
    }

    // MARK: Dense

    private struct DenseConfig: Decodable {
        var in_features, out_features: Int
        var bias: Bool?
        var activation_function: String?
    }

    private static let knownDense = KnownJSON(
        used: ["in_features", "out_features", "bias", "activation_function"], harmless: [],
        neutral: [
            "module_input_name": [.null, .text("sentence_embedding")],
            "module_output_name": [.null, .text("sentence_embedding")],
        ])

    private static func dense(_ folder: String) throws -> Dense {
        let file = try FolderFile(folder, "config.json")
        try knownDense.check(file)
        let config = try file.decode(DenseConfig.self)
        // sentence-transformers takes tanh where nothing is said.
        let name = config.activation_function.map { String($0.split(separator: ".").last ?? "") } ?? "Tanh"
        guard let activation = Dense.Activation(rawValue: name.lowercased()) else {
            throw FormatError(
                "\(file.path): the activation \(name.prefix(80)) is not supported (Identity and Tanh are)")
        }
        return Dense(
            folder: folder, inputs: config.in_features, outputs: config.out_features, hasBias: config.bias ?? true,
            activation: activation)
    }

    // MARK: Around it

    private struct SentenceConfig: Decodable { var max_seq_length: Int? }

    private static let knownSentence = KnownJSON(
        used: ["max_seq_length"], harmless: ["modality_config"],
        neutral: [
            "do_lower_case": [.null, .bool(false)], "transformer_task": [.null, .text("feature-extraction")],
            "module_output_name": [.null, .text("token_embeddings")],
        ])

    private static func maxTokens(_ folder: String) throws -> Int? {
        guard let file = try FolderFile(optional: folder, "sentence_bert_config.json") else { return nil }
        try knownSentence.check(file)
        return try file.decode(SentenceConfig.self).max_seq_length
    }

    /// Bytes of a prompt at most, and how many there may be.
    private static let longestPrompt = 1 << 16
    private static let mostPrompts = 256

    private struct Prompts: Decodable, Sendable {
        var prompts: [String: String]?
        var default_prompt_name: String?
    }

    private static let knownSettings = KnownJSON(
        used: ["prompts", "default_prompt_name"],
        harmless: ["__version__", "similarity_fn_name", "model_type"], neutral: ["truncate_dim": [.null]])

    private static func prompts(_ folder: String) throws -> Prompts {
        guard let file = try FolderFile(optional: folder, "config_sentence_transformers.json") else { return Prompts() }
        try knownSettings.check(file)
        let prompts = try file.decode(Prompts.self)
        for (name, text) in prompts.prompts ?? [:] where text.utf8.count > longestPrompt {
            throw FormatError(
                "\(file.path): the prompt \"\(name.prefix(80))\" has \(text.utf8.count) bytes: at most \(longestPrompt) are "
                    + "possible")
        }
        guard prompts.prompts?.count ?? 0 <= mostPrompts else {
            throw FormatError("\(file.path): there are more than \(mostPrompts) prompts")
        }
        guard let name = prompts.default_prompt_name, prompts.prompts?[name] == nil else { return prompts }
        throw FormatError("\(file.path): default_prompt_name is \"\(name.prefix(80))\", which is none of the prompts")
    }
}
