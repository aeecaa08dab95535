/// A decoder's tokenizer, the tokens that begin and end its texts, and its chat templates, from all files that say
/// something of them.
struct DecoderTokens {
    let tokenizer: any FolderTokenizer
    let ends: TextEndTokens
    private var templates: [(name: String, text: String)] = []

    /// - Parameter rows: the embedding's; tokens that the tokenizer lacks are there and unused.
    init(_ folder: String, _ outer: FolderSettings, _ config: FolderSettings, rows: Int) throws {
        tokenizer = try TokenizerJSON.open(folder: folder, rows: rows)
        guard tokenizer.count == rows else {
            throw FormatError("\(folder): tokenizer.json has \(tokenizer.count) tokens, but the embedding \(rows) rows")
        }
        let said = try FolderFile(optional: folder, "tokenizer_config.json")?.members()
        ends = try Self.ends(folder, tokenizer, said, [config, outer])
        templates = try Self.templates(folder, said)
    }

    // MARK: Ends

    private static func ends(
        _ folder: String, _ tokenizer: any FolderTokenizer, _ said: JSONObject?, _ configs: [FolderSettings]
    ) throws -> TextEndTokens {
        func named(_ name: String) -> Int? {
            let node = said?["\(name)_token"]
            return (node?.string ?? node?.object?["content"]?.string).flatMap(tokenizer.id)
        }
        let starts = try configs.compactMap { try ids($0, "bos_token_id").first }
        var lasts = try configs.flatMap { try ids($0, "eos_token_id") }
        if let file = try FolderFile(optional: folder, "generation_config.json") {
            lasts += try ids(FolderSettings(file.path, try file.members()), "eos_token_id")
        }
        var ends = tokenizer.ends
        // The token before a text is the one that the tokenizer puts there, whatever is called BOS elsewhere.
        ends.bos = ends.bos ?? named("bos") ?? starts.first
        if !ends.saysBOS, said?["add_bos_token"]?.bool == true, ends.bos != nil { ends.addsBOS = true }
        if !ends.saysEOS, said?["add_eos_token"]?.bool == true { ends.addsEOS = true }
        let all = ([ends.eos, named("eos")].compactMap { $0 } + lasts).reduce(into: [Int]()) { all, id in
            if !all.contains(id) { all.append(id) }
        }
        guard all.count <= 3 else {
            throw FormatError("\(folder): \(all.count) tokens end a text (eos_token_id): 3 at most are supported")
        }
        ends.eos = all.first
        if ends.eos == nil { ends.addsEOS = false }
        (ends.eot, ends.eom) = (all.dropFirst().first, all.dropFirst(2).first)
        for id in [ends.bos].compactMap({ $0 }) + all where id >= tokenizer.count {
            throw FormatError(
                "\(folder): the token \(id) begins or ends texts, but there are \(tokenizer.count) tokens")
        }
        return ends
    }

    /// A token, or a list of them.
    private static func ids(_ config: FolderSettings, _ key: String) throws -> [Int] {
        guard let node = config[key] else { return [] }
        let ids = (node.array ?? [node]).map(\.int)
        let known = ids.compactMap { $0 }.filter { $0 >= 0 }
        guard known.count == ids.count else { throw config.refusal(key, "is no token, and no list of tokens") }
        return known
    }

    // MARK: Templates

    private static let templateBytes = 4 << 20

    /// Those in files of their own stand before those in tokenizer_config.json, as `transformers` has it.
    private static func templates(_ folder: String, _ said: JSONObject?) throws -> [(name: String, text: String)] {
        if let text = try FolderFile.text(optional: folder, "chat_template.jinja", limit: templateBytes) {
            return [("default", text)]
        }
        let json = try FolderFile(optional: folder, "chat_template.json")?.members()
        guard let node = json?["chat_template"] ?? said?["chat_template"], !node.isNull else { return [] }
        if let text = node.string { return [("default", text)] }
        return try (node.array ?? []).map { item in
            guard let name = item.object?["name"]?.string, let text = item.object?["template"]?.string else {
                throw FormatError("\(folder): chat_template is neither a text nor a list of named ones")
            }
            return (name, text)
        }
    }

    /// As GGUF names them.
    func describe(_ metadata: inout FolderMetadata) {
        for template in templates {
            let isDefault = template.name == "default"
            metadata["tokenizer.chat_template" + (isDefault ? "" : ".\(template.name)")] = .text(template.text)
        }
        let others = templates.map(\.name).filter { $0 != "default" }
        if !others.isEmpty { metadata["tokenizer.chat_templates"] = .texts(others) }
    }
}
