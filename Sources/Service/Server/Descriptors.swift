import Glibc

/// File descriptors of the process: how many connections may take of them.
public enum Descriptors {
    /// What is kept for models, pressure sources, memory figures and the log, where the limit is not very low.
    private static let kept = 64

    /// nil where the system does not say.
    private static func limit() -> rlimit? {
        var limit = rlimit()
        return getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 ? limit : nil
    }

    /// Raises the limit of open files to what the system allows.
    public static func raiseLimit() {
        guard var limit = limit(), limit.rlim_cur < limit.rlim_max else { return }
        limit.rlim_cur = limit.rlim_max
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// Pressure sources, the socket, a model and one client, and what each event loop takes.
    private static var least: Int { 30 + 4 * max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// - Throws: ``ServiceError`` where the limit of open files is too low to serve anyone.
    public static func demandEnough() throws {
        guard let limit = limit(), limit.rlim_cur < rlim_t(least) else { return }
        throw ServiceError(
            .internal,
            "the limit of open files is \(limit.rlim_cur); ebbd needs at least \(least) (ulimit -n, or LimitNOFILE= of "
                + "the service)")
    }

    /// Connections that can be open while enough descriptors stay for everything else, beside those that are in use now.
    static var roomForConnections: Int {
        guard let limit = limit() else { return 256 }
        let all = Int(clamping: limit.rlim_cur)
        // They are given from the bottom up: none is in use far above the first thousands.
        let used = (0..<Int32(clamping: min(all, 4096))).count(where: { fcntl($0, F_GETFD) >= 0 })
        let rest = max(0, all - used)
        return max(1, rest - min(kept, rest / 2))
    }
}
