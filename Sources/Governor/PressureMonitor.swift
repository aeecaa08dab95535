import CEbbSystem
import Glibc
import Synchronization

/// What the sources say together.
public struct PressureView: Sendable {
    public struct Source: Sendable {
        public let name: String
        public let reading: PressureReading
    }
    public var level: PressureLevel = .nominal
    /// Whether every source told its level.
    public var isSure = true
    /// Seconds that the level has been nominal, by every source's word; 0 while it is not.
    public var calm = 0.0
    /// Seconds since it left nominal; 0 while it is nominal.
    public var strained = 0.0
    public var sources: [Source] = []
    /// When the kernel or a person woke the monitor, monotonic seconds; nil for a tick.
    public var wokenAt: Double?

    public init() {}

    /// Why the level is what it is: the sources at that level, with what they say.
    public var reason: String {
        let telling = sources.filter { $0.reading.level == level && level > .nominal }
        if telling.isEmpty {
            return level > .nominal ? "waiting for calm" : isSure ? "calm" : "a source is unknown"
        }
        return telling.map { "\($0.name): \($0.reading.text)" }.joined(separator: "; ")
    }
}

/// One thread that waits for the sources: for their descriptors, and a tick a few times a second. It outlives no
/// ``stop()``.
public final class PressureMonitor: Sendable {
    private let sources: [any PressureSource]
    private let interval: Double
    private let onView: @Sendable (PressureView) -> Void
    private let tracker: Mutex<LevelTracker>
    private let last = Mutex(PressureView())
    private let bell: Int32
    private let stopped = Atomic<Bool>(false)
    private let ended = Atomic<Bool>(true)

    /// - Parameters:
    ///   - interval: seconds between two looks at sources that wake nobody.
    ///   - onView: called on the monitor's thread after each look.
    public init(
        sources: [any PressureSource], interval: Double, dwell: Double,
        onView: @escaping @Sendable (PressureView) -> Void
    ) {
        self.sources = sources
        self.interval = interval
        self.onView = onView
        tracker = Mutex(LevelTracker(dwell: dwell, now: MonotonicClock.now()))
        bell = ebb_eventfd()
    }

    deinit { if bell >= 0 { close(bell) } }

    public var view: PressureView { last.withLock { $0 } }

    /// Starts the thread. False where the system has none to give.
    public func start() -> Bool {
        let me = Unmanaged.passRetained(self)
        var thread = pthread_t()
        ended.store(false, ordering: .sequentiallyConsistent)
        let code = pthread_create(
            &thread, nil,
            { raw in
                ebb_name_thread("ebb.pressure")
                if let raw { Unmanaged<PressureMonitor>.fromOpaque(raw).takeRetainedValue().run() }
                return nil
            }, me.toOpaque())
        guard code == 0 else {
            ended.store(true, ordering: .sequentiallyConsistent)
            me.release()
            return false
        }
        pthread_detach(thread)
        return true
    }

    /// Ends the thread; no view comes after this returns.
    public func stop() {
        stopped.store(true, ordering: .sequentiallyConsistent)
        while !ended.load(ordering: .sequentiallyConsistent) {
            wake()
            usleep(500)
        }
    }

    /// Has the sources asked at once.
    public func wake() {
        var one: UInt64 = 1
        _ = write(bell, &one, 8)
    }

    private func run() {
        var wokenAt: Double?
        while !stopped.load(ordering: .sequentiallyConsistent) {
            look(wokenAt)
            wokenAt = wait()
        }
        ended.store(true, ordering: .sequentiallyConsistent)
    }

    /// Sleeps until something is ready or the tick comes; when it was woken, monotonic seconds.
    private func wait() -> Double? {
        let watched = sources.enumerated().flatMap { index, source in source.watched.map { (index, $0) } }
        var polled = [pollfd(fd: bell, events: Int16(POLLIN), revents: 0)]
        polled += watched.map { pollfd(fd: $0.1.descriptor, events: $0.1.events, revents: 0) }
        let ready = poll(&polled, nfds_t(polled.count), Int32(max(1, interval * 1000)))
        guard ready > 0 else { return nil }
        let now = MonotonicClock.now()
        var drained: UInt64 = 0
        if polled[0].revents != 0 { _ = Glibc.read(bell, &drained, 8) }
        for (item, poll) in zip(watched, polled.dropFirst()) where poll.revents != 0 {
            sources[item.0].ready(poll.fd, events: poll.revents)
        }
        return now
    }

    private func look(_ wokenAt: Double?) {
        let now = MonotonicClock.now()
        var view = PressureView()
        view.sources = sources.map { PressureView.Source(name: $0.name, reading: $0.read()) }
        view.wokenAt = wokenAt
        tracker.withLock { tracker in
            tracker.update(view.sources.map(\.reading.level), now: now)
            view.level = tracker.level
            view.isSure = tracker.isSure
            view.calm = tracker.level == .nominal ? now - tracker.phaseSince : 0
            view.strained = tracker.level == .nominal ? 0 : now - tracker.phaseSince
        }
        last.withLock { $0 = view }
        onView(view)
    }
}
