import Glibc
import Synchronization

/// PSI triggers on a pressure file (https://docs.kernel.org/accounting/psi.html): the kernel wakes a thread when tasks
/// have stalled for memory for a share of a window.
public final class PSISource: PressureSource {
    public let name: String
    private let state: State

    private final class State: Sendable {
        /// Monotonic milliseconds of the last event of each trigger; 0 for none.
        let lastWarning = Atomic<Int>(0)
        let lastCritical = Atomic<Int>(0)
        let stopped = Atomic<Bool>(false)
        let failed = Atomic<Bool>(false)
    }

    /// Windows that an unprivileged process may use are multiples of 2 s.
    private static let window = 2_000_000
    /// 5 % of the window with some task stalled; 5 % with all of them stalled.
    private static let warningTrigger = "some 100000 \(window)\0"
    private static let criticalTrigger = "full 100000 \(window)\0"

    /// nil where the kernel has no PSI or refuses the trigger.
    public init?(path: String = "/proc/pressure/memory") {
        guard let warning = Self.arm(path, Self.warningTrigger) else { return nil }
        guard let critical = Self.arm(path, Self.criticalTrigger) else {
            close(warning)
            return nil
        }
        name = "PSI \(path)"
        let state = State()
        self.state = state
        Self.watch(state, warning, critical)
    }

    deinit { state.stopped.store(true, ordering: .relaxed) }

    private static func arm(_ path: String, _ trigger: String) -> Int32? {
        let fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        let written = trigger.utf8CString.withUnsafeBytes { write(fd, $0.baseAddress, trigger.utf8.count) }
        guard written >= 0 else {
            close(fd)
            return nil
        }
        return fd
    }

    private final class Watch {
        let state: State
        let warning, critical: Int32
        init(_ state: State, _ warning: Int32, _ critical: Int32) {
            (self.state, self.warning, self.critical) = (state, warning, critical)
        }

        func run() {
            defer {
                close(warning)
                close(critical)
            }
            var polled = [warning, critical].map { pollfd(fd: $0, events: Int16(POLLPRI), revents: 0) }
            while !state.stopped.load(ordering: .relaxed) {
                let ready = poll(&polled, 2, 1000)
                if ready < 0, errno != EINTR { break }
                guard ready > 0 else { continue }
                if polled.contains(where: { $0.revents & Int16(POLLERR) != 0 }) { break }
                let now = PSISource.milliseconds()
                if polled[0].revents & Int16(POLLPRI) != 0 { state.lastWarning.store(now, ordering: .relaxed) }
                if polled[1].revents & Int16(POLLPRI) != 0 { state.lastCritical.store(now, ordering: .relaxed) }
            }
            state.failed.store(true, ordering: .relaxed)
        }
    }

    private static func watch(_ state: State, _ warning: Int32, _ critical: Int32) {
        let watch = Unmanaged.passRetained(Watch(state, warning, critical))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { raw in
                if let raw { Unmanaged<Watch>.fromOpaque(raw).takeRetainedValue().run() }
                return nil
            }, watch.toOpaque())
        if code == 0 {
            pthread_detach(thread)
        } else {
            watch.release()
            state.failed.store(true, ordering: .relaxed)
        }
    }

    private static func milliseconds() -> Int {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return now.tv_sec * 1000 + now.tv_nsec / 1_000_000
    }

    public func read() -> PressureReading {
        if state.failed.load(ordering: .relaxed) {
            return PressureReading(level: .nominal, text: "the trigger failed; not in use")
        }
        let now = Self.milliseconds()
        func recent(_ last: Int) -> Bool { last > 0 && now - last < Self.window / 1000 }
        let critical = recent(state.lastCritical.load(ordering: .relaxed))
        let warning = recent(state.lastWarning.load(ordering: .relaxed))
        let level: PressureLevel = critical ? .critical : warning ? .warning : .nominal
        return PressureReading(level: level, text: level == .nominal ? "no stall" : "tasks stall for memory")
    }
}
