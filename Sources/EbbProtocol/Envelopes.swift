extension EbbEnvelope {
    public init(id: UInt64, _ body: OneOf_Body) {
        self.init()
        self.id = id
        self.body = body
    }
}

extension EbbFailure {
    public init(_ code: EbbCode, _ message: String, retryAfterMilliseconds: UInt32? = nil) {
        self.init()
        self.code = code
        self.message = message
        retry = retryAfterMilliseconds != nil
        retryAfterMs = retryAfterMilliseconds ?? 0
    }
}

extension EbbEnvelope.OneOf_Body {
    /// Whether a request gets no answer after this one.
    public var isLastAnswer: Bool {
        switch self {
        case .delta, .event: false
        default: true
        }
    }
}
