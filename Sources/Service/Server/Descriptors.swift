import Glibc

/// File descriptors of the process: how many connections may take of them.
public enum Descriptors {
    /// What is kept for models, pressure sources, memory figures and the log.
    private static let kept = 64

    /// Raises the limit of open files to what the system allows.
    public static func raiseLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < limit.rlim_max
        else {
            return
        }
        limit.rlim_cur = limit.rlim_max
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// Connections that can be open while enough descriptors stay for everything else.
    static var roomForConnections: Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 256 }
        let all = Int(clamping: limit.rlim_cur)
        return max(1, all - min(kept, all / 2))
    }
}
