import EbbProtocol

/// What is agreed on when a client connects.
enum Handshake {
    /// What a daemon knows, beside the requests of version 1.
    private static let features = [
        "generate", "chat", "tokenize", "modes", "embed", "events", "preferences", "pressure", "priorities",
        "deadlines", "reproducible", "shared_prefix", "render", "channels", "embed_options", "rerank", "truncated",
        "adapters",
    ]

    /// - Throws: ``ServiceError`` where there is no version that both speak.
    static func welcome(for hello: EbbHello, limits: ServiceLimits) throws -> EbbWelcome {
        var welcome = EbbWelcome()
        welcome.version = try version(for: hello)
        welcome.server = "ebbd/\(EbbProtocol.release)"
        welcome.features = features
        welcome.limits.maxFrameBytes = UInt32(EbbProtocol.maxFrameBytes)
        welcome.limits.maxInFlight = UInt32(clamping: limits.maxRequestsPerConnection)
        welcome.limits.maxTextBytes = UInt32(clamping: limits.maxTextBytes)
        return welcome
    }

    private static func version(for hello: EbbHello) throws -> UInt32 {
        let spoken = EbbProtocol.versions
        let version = min(hello.versionMax, spoken.upperBound)
        guard version >= max(hello.versionMin, spoken.lowerBound) else {
            throw ServiceError(
                .unsupportedVersion,
                "this daemon speaks version \(spoken.lowerBound) to \(spoken.upperBound), the client "
                    + "\(hello.versionMin) to \(hello.versionMax)")
        }
        return version
    }

    /// Printed in terminals: no more than a name, and nothing that moves the cursor.
    static func name(_ hello: EbbHello) -> String {
        String(String.UnicodeScalarView(hello.client.unicodeScalars.prefix(64))).printable
    }
}
