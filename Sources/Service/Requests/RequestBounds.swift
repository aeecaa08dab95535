import EbbProtocol

/// What a request may hold, judged before anything is done with it.
struct RequestBounds {
    /// Bytes of text in all.
    let maxTextBytes: Int

    static let mostStops = 16
    static let stopBytes = 256
    static let mostEmbeddings = 256
    /// Of tools, variables, parts and further members: JSON takes many times its bytes when it is taken apart.
    static let jsonBytes = 1 << 20
    /// What a message costs beside its text, in memory and in a template's steps.
    static let messageOverhead = 64

    init(_ limits: ServiceLimits) { maxTextBytes = limits.maxTextBytes }

    /// - Returns: what the request's text counts as, in bytes.
    /// - Throws: ``ServiceError`` (BAD_REQUEST) that says which bound.
    func bytes(of request: EbbGenerate) throws -> Int {
        guard request.stop.count <= Self.mostStops,
            request.stop.allSatisfy({ $0.utf8.count <= Self.stopBytes })
        else {
            throw ServiceError(
                .badRequest, "at most \(Self.mostStops) stop texts of \(Self.stopBytes) bytes are possible")
        }
        guard !request.stop.contains("") else { throw ServiceError(.badRequest, "an empty stop text is in every text") }
        try demand(request.adapters)
        switch request.input {
        case .prompt(let text)?: return try demand(text.utf8.count, "the prompt")
        case .chat(let chat)?: return try bytes(of: chat)
        case nil: throw ServiceError(.badRequest, "the request has neither a prompt nor a chat")
        }
    }

    private func demand(_ adapters: [EbbAdapter]) throws {
        guard adapters.count <= EbbProtocol.maxAdapters else {
            throw ServiceError(
                .badRequest,
                "\(adapters.count) adapters: at most \(EbbProtocol.maxAdapters) are possible in one request")
        }
        let most = EbbProtocol.maxAdapterStrength
        for adapter in adapters where !(-most...most).contains(adapter.effectiveStrength) {
            throw ServiceError(
                .badRequest,
                "the strength of adapter \"\(adapter.name.prefix(ModelCatalog.mostCharacters))\" is "
                    + "\(adapter.effectiveStrength): -\(Int(most)) to \(Int(most)) are possible")
        }
        guard Set(adapters.map(\.name)).count == adapters.count else {
            throw ServiceError(.badRequest, "an adapter is named twice: add its strengths up")
        }
    }

    /// - Throws: ``ServiceError`` (BAD_REQUEST) that says which bound.
    func bytes(of chat: EbbChat) throws -> Int {
        guard chat.messages.count <= EbbProtocol.maxMessages else {
            throw ServiceError(
                .badRequest,
                "\(chat.messages.count) messages: at most \(EbbProtocol.maxMessages) are possible; leave earlier ones away"
            )
        }
        let json = chat.jsonBytes
        guard json <= Self.jsonBytes else {
            throw ServiceError(
                .badRequest,
                "\(json) bytes of JSON in tools, variables, parts and further members (tools_json, variables_json, parts_json, "
                    + "more_json): at most \(Self.jsonBytes) are possible"
            )
        }
        let text = chat.messages.reduce(json) { $0 + $1.role.utf8.count + $1.content.utf8.count + Self.messageOverhead }
        return try demand(text, "the chat")
    }

    /// - Returns: the bytes of the texts together.
    func bytes(of request: EbbEmbed) throws -> Int {
        guard (1...Self.mostEmbeddings).contains(request.texts.count) else {
            throw ServiceError(
                .badRequest, "\(request.texts.count) texts in a request: 1 to \(Self.mostEmbeddings) are possible")
        }
        return try demand(request.texts.reduce(0) { $0 + $1.utf8.count }, "the texts")
    }

    /// - Returns: the bytes of the query and the documents together.
    func bytes(of request: EbbRerank) throws -> Int {
        guard (1...Self.mostEmbeddings).contains(request.documents.count) else {
            throw ServiceError(
                .badRequest,
                "\(request.documents.count) documents in a request: 1 to \(Self.mostEmbeddings) are possible")
        }
        let bytes = request.documents.reduce(request.query.utf8.count) { $0 + $1.utf8.count }
        return try demand(bytes, "query and documents")
    }

    /// - Throws: ``ServiceError`` for more bytes than one request may bring.
    @discardableResult
    func demand(_ bytes: Int, _ what: String) throws -> Int {
        guard bytes <= maxTextBytes else {
            throw ServiceError(
                .badRequest, "\(what) has \(bytes) bytes: at most \(maxTextBytes) are possible in one request")
        }
        return bytes
    }
}

/// What an answer may hold: judged before it is built.
enum ReplyBounds {
    /// Bytes of a message that leave room for its envelope.
    static let bytes = EbbProtocol.maxFrameBytes - 64

    /// - Parameter advice: what to do instead.
    static func demand(_ bytes: Int, _ what: String, _ advice: String) throws {
        guard bytes <= Self.bytes else {
            throw ServiceError(
                .badRequest, "\(what) would take \(bytes) bytes, one answer holds \(Self.bytes): \(advice)")
        }
    }
}
