import Glibc

/// Numbers and names of the protocol; protocol/README.md specifies it.
public enum EbbProtocol {
    /// Versions that this code speaks.
    public static let versions: ClosedRange<UInt32> = 1...1
    /// Bytes of a frame's payload at most.
    public static let maxFrameBytes = 4 << 20
    /// Requests of one connection that may be under way at once.
    public static let maxInFlight = 64
    /// Messages of one conversation.
    public static let maxMessages = 16_384
    /// Adapters of one request, and how strong each may be, to either side.
    public static let maxAdapters = 8
    public static let maxAdapterStrength: Float = 100
    /// The program's version, as it stands in Hello and Welcome.
    public static let release = "0.1.0"

    /// Where the daemon listens unless told otherwise: `$EBB_SOCKET`; else `/run/ebb/ebb.sock` for root, or where that
    /// exists; else `$XDG_RUNTIME_DIR/ebb/ebb.sock`.
    public static var defaultSocket: String {
        if let path = variable("EBB_SOCKET") { return path }
        let system = "/run/ebb/ebb.sock"
        guard geteuid() != 0, access(system, F_OK) != 0, let runtime = variable("XDG_RUNTIME_DIR") else {
            return system
        }
        return runtime + "/ebb/ebb.sock"
    }

    private static func variable(_ name: String) -> String? {
        guard let value = getenv(name).map({ String(cString: $0) }), !value.isEmpty else { return nil }
        return value
    }
}
