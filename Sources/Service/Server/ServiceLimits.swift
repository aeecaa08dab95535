/// What clients may take of the service at most, so that none of them takes it from the others.
public struct ServiceLimits: Sendable, Hashable {
    /// Connections in all; one more is refused.
    public var maxConnections = 1024
    /// Connections of one user.
    public var maxConnectionsPerUser = 256
    /// Requests of one connection that may be under way at once, waiting ones included.
    public var maxRequestsPerConnection = 64
    /// Requests of one connection that wait for memory or for their turn.
    public var maxQueuedPerConnection = 64
    /// Waiting requests of one user, over all of their connections.
    public var maxQueuedPerUser = 256
    /// Waiting requests in all.
    public var maxQueued = 1024
    /// Seconds from the connection until its handshake must be done.
    public var handshakeSeconds = 10.0
    /// Bytes of replies that wait for a connection's reader.
    public var maxQueuedReplyBytes = 8 << 20
    /// Seconds without progress after which a connection that does not read is closed.
    public var slowReaderSeconds = 30.0
    /// Bytes of text in one request: prompts, messages, texts to embed or tokenize.
    public var maxTextBytes = 4 << 20
    /// Seconds that the rendering of a chat template may take.
    public var templateSeconds = 1.0
    /// Threads that tokenize, render templates and read files.
    public var textThreads = 1

    public init() {}
}
