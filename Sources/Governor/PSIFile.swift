import Glibc

/// A pressure file of the kernel (https://docs.kernel.org/accounting/psi.html): `/proc/pressure/memory`, or
/// `memory.pressure` of a cgroup.
struct PSIFile: Sendable {
    private let file: HeldFile
    var path: String { file.path }

    init(path: String) { file = HeldFile(path) }

    /// Shares of the last ten seconds, in percent, in which some task or all of them stalled for memory.
    struct Averages: Equatable {
        var some: Double
        var full: Double

        /// Parses `some avg10=0.00 avg60=… total=…` and the same with `full`.
        init?(_ text: String) {
            var found: [Substring: Double] = [:]
            for line in text.split(separator: "\n") {
                let words = line.split(separator: " ")
                guard words.count > 1, words[1].hasPrefix("avg10="), let share = Double(words[1].dropFirst(6)) else {
                    continue
                }
                found[words[0]] = share
            }
            guard let some = found["some"], let full = found["full"] else { return nil }
            (self.some, self.full) = (some, full)
        }
    }

    var averages: Averages? { file.text().flatMap(Averages.init) }

    /// Arms a trigger: the descriptor becomes ready (POLLPRI) when a share of a window was lost to stalls.
    /// - Returns: the descriptor, or the error number.
    func arm(_ trigger: String) -> Result<Int32, Refusal> {
        let fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)
        guard fd >= 0 else { return .failure(Refusal(code: errno)) }
        let written = trigger.utf8CString.withUnsafeBytes { write(fd, $0.baseAddress, $0.count) }
        guard written >= 0 else {
            let code = errno
            close(fd)
            return .failure(Refusal(code: code))
        }
        return .success(fd)
    }

    struct Refusal: Error {
        let code: Int32

        /// Why, for people.
        var text: String {
            switch code {
            case EACCES, EPERM: "no permission for a trigger"
            case EINVAL, EOPNOTSUPP: "the kernel refuses a trigger"
            default: "no trigger (error \(code))"
            }
        }
    }
}
