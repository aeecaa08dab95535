import Engine
import ModelFormat
import Text

/// What turns a model's texts and conversations into tokens, and its tokens into texts: its metadata is enough for that.
struct ModelText: Sendable {
    let tokenizer: Tokenizer
    private let metadata: Metadata
    private let made = MadeOnce<ChatSupport>()

    /// - Throws: `FormatError` or `TextError` for a tokenizer that cannot be used.
    init(_ metadata: Metadata) throws { self.init(metadata, try Tokenizer(metadata)) }

    init(_ metadata: Metadata, _ tokenizer: Tokenizer) {
        self.metadata = metadata
        self.tokenizer = tokenizer
    }

    /// Made when it is first asked for, which takes milliseconds.
    var chat: ChatSupport { made.get { ChatSupport(metadata, tokenizer) } }
}

/// How a model is talked with.
struct ChatSupport: Sendable {
    /// nil where the model has none, or none that can be used.
    let template: ChatTemplate?
    /// Why the template that the model has cannot be used.
    let problem: String?
    let forms: MessageForms?
    /// nil where the model marks neither thinking nor calls of tools.
    let channels: ChannelFormat?
    private let isEncoder: Bool

    init(_ metadata: Metadata, _ tokenizer: Tokenizer) {
        isEncoder = EncoderModel.isEncoder(metadata)
        (template, problem) = ChatTemplate.read(metadata, tokenizer: tokenizer)
        forms = template.map { MessageForms($0) }
        channels = template.flatMap { ChannelFormat.find($0, tokenizer) }
    }

    /// - Throws: ``ServiceError`` that says what to do instead.
    func demandTemplate(of model: String) throws -> ChatTemplate {
        guard !isEncoder else {
            throw ServiceError(.badRequest, "\(model) is an encoder: it makes embeddings and has no conversations")
        }
        if let template { return template }
        let why =
            problem.map { "its chat template cannot be used (\($0))" } ?? "it is a base model without a chat template"
        throw ServiceError(
            .badRequest,
            "\(model) cannot chat: \(why). Send a prompt (ebbctl run --raw), or import the model with a template of your "
                + "choice (ebbctl import --chat-template FILE or chatml)")
    }
}
