import EbbProtocol
import Synchronization

/// A connection to `ebbd`. Calls may run side by side; a lost connection is made anew by the next call.
///
/// ```swift
/// let ebb = try await EbbClient.connect()
/// for try await event in try await ebb.generate("smollm2", chat: [ChatMessage(role: "user", content: "Hi")]) {
///     if case .text(let piece) = event { print(piece, terminator: "") }
/// }
/// ```
public final class EbbClient: Sendable {
    /// The path of the daemon's socket.
    public let socket: String
    private let name: String
    private let connection: Mutex<ClientConnection?>

    private init(socket: String, name: String, connection: ClientConnection) {
        self.socket = socket
        self.name = name
        self.connection = Mutex(connection)
    }

    /// Connects and shakes hands.
    /// - Parameters:
    ///   - socket: nil for `$EBB_SOCKET` or the default.
    ///   - name: who connects, for the daemon's log.
    /// - Throws: ``ClientError`` that says what to do.
    public static func connect(to socket: String? = nil, as name: String = "EbbClient") async throws -> EbbClient {
        let socket = socket ?? EbbProtocol.defaultSocket
        return EbbClient(socket: socket, name: name, connection: try await ClientConnection.open(socket, client: name))
    }

    /// What the daemon said of itself when the connection was made.
    public var server: String { connection.withLock { $0?.welcome.server ?? "" } }

    public func close() async throws {
        let current = connection.withLock { connection in
            defer { connection = nil }
            return connection
        }
        try await current?.close()
    }

    private func open() async throws -> ClientConnection {
        if let current = connection.withLock({ $0 }), current.isOpen { return current }
        let fresh = try await ClientConnection.open(socket, client: name)
        connection.withLock { $0 = fresh }
        return fresh
    }

    // MARK: Inference

    /// Continues a prompt. Special tokens written in it count as such.
    public func generate(_ model: String, prompt: String, options: GenerationOptions = .init()) async throws
        -> Generation
    {
        try await generate(model, .prompt(prompt), options)
    }

    /// Answers a conversation, rendered by the model's own template.
    public func generate(
        _ model: String, chat messages: [ChatMessage], template: TemplateOptions = .init(),
        options: GenerationOptions = .init()
    ) async throws -> Generation {
        try await generate(model, .chat(template.chat(messages)), options)
    }

    /// The prompt that ``generate(_:chat:template:options:)`` would make of a conversation.
    /// - Parameters:
    ///   - addGenerationPrompt: end with the opening of the assistant's turn.
    ///   - tokens: say its tokens too.
    public func render(
        _ model: String, chat messages: [ChatMessage], template: TemplateOptions = .init(),
        addGenerationPrompt: Bool = true, tokens: Bool = false
    ) async throws -> RenderedPrompt {
        var request = EbbRender()
        (request.model, request.chat) = (model, template.chat(messages))
        (request.noGenerationPrompt, request.tokens) = (!addGenerationPrompt, tokens)
        guard case .rendered(let rendered) = try await open().call(.render(request)) else { throw Self.unexpected }
        return RenderedPrompt(text: rendered.text, tokens: rendered.ids)
    }

    private func generate(
        _ model: String, _ input: EbbGenerate.OneOf_Input, _ options: GenerationOptions
    ) async throws -> Generation {
        var request = EbbGenerate()
        request.model = model
        request.input = input
        request.sampling = options.sampling
        request.maxTokens = UInt32(clamping: options.maxTokens ?? 0)
        request.stop = options.stop
        request.priority = options.priority.value
        request.deadlineMs = options.deadline?.deadlineMilliseconds ?? 0
        request.reproducible = options.isReproducible
        request.sharedPrefix = options.sharesPrefix
        request.channels = options.separatesChannels
        request.adapters = options.adapters.map(\.message)
        return Generation(answers: try await open().stream(.generate(request)))
    }

    /// The embeddings of texts, in their order, by an encoder. Any number of texts: requests of at most 256 texts and
    /// 2 MiB, or what the daemon takes in one request, follow each other.
    /// - Parameters:
    ///   - dimensions: values of each embedding, from the first on; nil for all.
    ///   - prompt: which of the model's prompts stands before each text; empty for none, nil for the model's default.
    ///   - deadline: for each of those requests, from its arrival; nil for any time.
    ///   - onTruncation: called with the place of each text that was too long for the model and was cut.
    public func embed(
        _ model: String, texts: [String], dimensions: Int? = nil, prompt: String? = nil,
        priority: RequestPriority = .normal, deadline: Duration? = nil, onTruncation: (Int) -> Void = { _ in }
    ) async throws -> [[Float]] {
        var found: [[Float]] = []
        for piece in try await pieces(texts, reserving: 0) {
            var request = EbbEmbed()
            (request.model, request.texts, request.priority) = (model, Array(piece), priority.value)
            request.deadlineMs = deadline?.deadlineMilliseconds ?? 0
            request.dimensions = UInt32(clamping: dimensions ?? 0)
            if let prompt { request.prompt = prompt }
            guard case .embeddings(let answer) = try await open().call(.embed(request)),
                answer.vectors.count == piece.count
            else { throw Self.unexpected }
            for place in answer.truncated where place < piece.count { onTruncation(found.count + Int(place)) }
            found += answer.vectors.map(\.values)
        }
        return found
    }

    /// How well each document answers a query, in their order: the larger, the better. By a reranker. Any number of documents,
    /// as with ``embed(_:texts:dimensions:prompt:priority:deadline:onTruncation:)``.
    /// - Parameter onTruncation: called with the place of each document for which it or the query was cut.
    public func rerank(
        _ model: String, query: String, documents: [String], priority: RequestPriority = .normal,
        deadline: Duration? = nil, onTruncation: (Int) -> Void = { _ in }
    ) async throws -> [Float] {
        var found: [Float] = []
        for piece in try await pieces(documents, reserving: query.utf8.count) {
            var request = EbbRerank()
            (request.model, request.query, request.documents) = (model, query, Array(piece))
            (request.priority, request.deadlineMs) = (priority.value, deadline?.deadlineMilliseconds ?? 0)
            guard case .reranked(let answer) = try await open().call(.rerank(request)),
                answer.scores.count == piece.count
            else { throw Self.unexpected }
            for place in answer.truncated where place < piece.count { onTruncation(found.count + Int(place)) }
            found += answer.scores
        }
        return found
    }

    /// Texts in the pieces that one request takes, beside `reserved` bytes of something else.
    private func pieces(_ texts: [String], reserving reserved: Int) async throws -> [ArraySlice<String>] {
        let said = Int(try await open().welcome.limits.maxTextBytes)
        let mostBytes = said > 0 ? min(said, 2 << 20) : 2 << 20
        var pieces: [ArraySlice<String>] = []
        var rest = texts[...]
        while !rest.isEmpty {
            var bytes = reserved
            let taken = rest.prefix(256).prefix { text in
                bytes += text.utf8.count
                return bytes <= mostBytes
            }
            pieces.append(taken.isEmpty ? rest.prefix(1) : taken)
            rest = rest.dropFirst(max(taken.count, 1))
        }
        return pieces
    }

    /// A text's tokens.
    public func tokenize(
        _ model: String, _ text: String, addSpecial: Bool = true, parseSpecial: Bool = false
    ) async throws -> [Int32] {
        var request = EbbTokenize()
        (request.model, request.text, request.addSpecial, request.parseSpecial) = (
            model, text, addSpecial, parseSpecial
        )
        guard case .tokens(let tokens) = try await open().call(.tokenize(request)) else { throw Self.unexpected }
        return tokens.ids
    }

    /// The text of tokens.
    public func detokenize(_ model: String, _ ids: [Int32]) async throws -> String {
        var request = EbbDetokenize()
        (request.model, request.ids) = (model, ids)
        guard case .text(let text) = try await open().call(.detokenize(request)) else { throw Self.unexpected }
        return text.text
    }

    // MARK: Control

    /// All models of the daemon's folder.
    public func models() async throws -> [EbbModel] {
        guard case .models(let models) = try await open().call(.listModels(EbbListModels())) else {
            throw Self.unexpected
        }
        return models.models
    }

    /// Loads a model ahead of its first use.
    public func load(_ model: String) async throws -> EbbModelStatus {
        var request = EbbLoad()
        request.model = model
        guard case .status(let status) = try await open().call(.load(request)), let loaded = status.models.first else {
            throw Self.unexpected
        }
        return loaded
    }

    /// Unloads a model; its running requests fail.
    public func unload(_ model: String) async throws {
        var request = EbbUnload()
        request.model = model
        try await expectDone(.unload(request))
    }

    /// Lets the governor choose (`auto`), or pins all layers to a mode. Layers follow in the background.
    public func setMode(_ model: String, _ mode: EbbMode) async throws {
        var request = EbbSetMode()
        (request.model, request.mode) = (model, mode)
        try await expectDone(.setMode(request))
    }

    /// Sets what the governor uses free memory for, and in which order; nil leaves a setting as it is. Kept over restarts.
    public func prefer(_ model: String, _ preference: EbbPreference? = nil, priority: Int? = nil) async throws {
        var request = EbbSetPreference()
        request.model = model
        if let preference { request.preference = preference }
        if let priority { request.priority = Int32(clamping: priority) }
        try await expectDone(.setPreference(request))
    }

    /// Says how scarce memory is, for a while; 0 seconds take it back.
    public func setPressure(_ level: EbbLevel, seconds: UInt32) async throws {
        var request = EbbSetPressure()
        (request.level, request.seconds) = (level, seconds)
        try await expectDone(.setPressure(request))
    }

    /// Changes of level, mode and residency, from now on. Leaving the loop ends the subscription.
    public func events() async throws -> Events { Events(answers: try await open().stream(.subscribe(EbbSubscribe()))) }

    /// The daemon's state, with the memory that it really takes.
    public func status() async throws -> EbbStatus {
        guard case .status(let status) = try await open().call(.getStatus(EbbGetStatus())) else {
            throw Self.unexpected
        }
        return status
    }

    /// The time of a round trip.
    public func ping() async throws -> Duration {
        let clock = ContinuousClock()
        let start = clock.now
        guard case .pong = try await open().call(.ping(EbbPing())) else { throw Self.unexpected }
        return clock.now - start
    }

    private func expectDone(_ body: EbbEnvelope.OneOf_Body) async throws {
        guard case .done = try await open().call(body) else { throw Self.unexpected }
    }

    private static let unexpected = ClientError(
        .protocolViolation, "ebbd sent an unexpected answer; is it another version?")
}
