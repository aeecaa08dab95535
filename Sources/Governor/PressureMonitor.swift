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
    /// Whether nobody waited for an answer, nor did lately.
    public var isQuiet = false

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

/// One thread that waits for the sources: for their descriptors, and until ``Attention`` wants a look. It outlives no
/// ``stop()``.
public final class PressureMonitor: Sendable {
    private let sources: [any PressureSource]
    private let attention: Attention
    private let onView: @Sendable (PressureView) -> Void
    private let tracker: Mutex<LevelTracker>
    private let last = Mutex(PressureView())
    private let waiting = Mutex(Waiting())
    private let stopped = Atomic<Bool>(false)
    private let ended = Atomic<Bool>(true)

    /// Who waits for a look.
    private struct Waiting {
        var continuations: [CheckedContinuation<Void, Never>] = []
        /// Whether there is a thread that will look.
        var isOpen = false
    }

    /// - Parameters:
    ///   - attention: says when to look; of this monitor alone.
    ///   - onView: called on the monitor's thread after each look.
    public init(
        sources: [any PressureSource], attention: Attention, dwell: Double,
        onView: @escaping @Sendable (PressureView) -> Void
    ) {
        self.sources = sources
        self.attention = attention
        self.onView = onView
        tracker = Mutex(LevelTracker(dwell: dwell, now: MonotonicClock.now()))
    }

    public var view: PressureView { last.withLock { $0 } }

    /// Starts the thread. False where the system has none to give.
    public func start() -> Bool {
        let me = Unmanaged.passRetained(self)
        var thread = pthread_t()
        ended.store(false, ordering: .sequentiallyConsistent)
        waiting.withLock { $0.isOpen = true }
        let code = pthread_create(
            &thread, nil,
            { raw in
                ebb_name_thread("ebb.pressure")
                if let raw { Unmanaged<PressureMonitor>.fromOpaque(raw).takeRetainedValue().run() }
                return nil
            }, me.toOpaque())
        guard code == 0 else {
            letGo()
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
            attention.ring()
            usleep(500)
        }
    }

    /// Has the sources asked, and returns when the view is what they said, or when nobody asks them any more.
    public func look() async {
        await withCheckedContinuation { continuation in
            let waits = waiting.withLock { waiting in
                if waiting.isOpen { waiting.continuations.append(continuation) }
                return waiting.isOpen
            }
            if waits { attention.ask() } else { continuation.resume() }
        }
    }

    private func run() {
        var wokenAt: Double?
        while !stopped.load(ordering: .sequentiallyConsistent) {
            look(wokenAt)
            wokenAt = nil
            var isStirred = false
            // The bell may have told only that it is to sleep for less than it meant to.
            while !isStirred, let rest = attention.sleep(now: MonotonicClock.now()) {
                guard !stopped.load(ordering: .sequentiallyConsistent) else { break }
                (wokenAt, isStirred) = wait(rest)
            }
        }
        letGo()
        ended.store(true, ordering: .sequentiallyConsistent)
    }

    private func letGo() {
        let waiters = waiting.withLock { waiting in
            waiting.isOpen = false
            defer { waiting.continuations = [] }
            return waiting.continuations
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Sleeps until something is ready or the time is over.
    /// - Parameter seconds: infinity for ever.
    /// - Returns: monotonic seconds at which it was woken, nil where it was the time; and whether the kernel did.
    private func wait(_ seconds: Double) -> (wokenAt: Double?, isStirred: Bool) {
        let watched = sources.enumerated().flatMap { index, source in source.watched.map { (index, $0) } }
        var polled = [pollfd(fd: attention.bell, events: Int16(POLLIN), revents: 0)]
        polled += watched.map { pollfd(fd: $0.1.descriptor, events: $0.1.events, revents: 0) }
        // Rounded up: it would wake and find that there is a moment left.
        let milliseconds = seconds == .infinity ? -1 : Int32((min(seconds, 1e6) * 1000).rounded(.up))
        let ready = poll(&polled, nfds_t(polled.count), milliseconds)
        let now = MonotonicClock.now()
        var (drained, isStirred): (UInt64, Bool) = (0, false)
        if ready > 0, polled[0].revents != 0 { _ = Glibc.read(attention.bell, &drained, 8) }
        for (item, poll) in zip(watched, polled.dropFirst()) where ready > 0 && poll.revents != 0 {
            sources[item.0].ready(poll.fd, events: poll.revents)
            isStirred = true
        }
        attention.wake(isStirred: isStirred, now: now)
        return (ready > 0 ? now : nil, isStirred)
    }

    private func look(_ wokenAt: Double?) {
        let now = MonotonicClock.now()
        let isAsked = attention.beginLook(now: now)
        let waiters = waiting.withLock { waiting in
            defer { waiting.continuations = [] }
            return waiting.continuations
        }
        var view = PressureView()
        view.sources = sources.map { PressureView.Source(name: $0.name, reading: $0.read()) }
        view.wokenAt = wokenAt ?? (isAsked ? now : nil)
        view.isQuiet = attention.isQuiet(now: now)
        let changesAt = tracker.withLock { tracker in
            tracker.update(view.sources.map(\.reading.level), now: now)
            view.level = tracker.level
            view.isSure = tracker.isSure
            view.calm = tracker.level == .nominal ? now - tracker.phaseSince : 0
            view.strained = tracker.level == .nominal ? 0 : now - tracker.phaseSince
            return tracker.level > .nominal ? Self.changesAt(view, tracker) : nil
        }
        last.withLock { $0 = view }
        attention.endLook(
            level: view.level, changesAt: changesAt, hasTriggers: sources.contains { $0.coversSystem })
        onView(view)
        for waiter in waiters { waiter.resume() }
    }

    /// When time alone changes what has been seen.
    private static func changesAt(_ view: PressureView, _ tracker: LevelTracker) -> Double? {
        let readings = view.sources.map(\.reading)
        let worst = readings.compactMap(\.level).max() ?? .nominal
        return (readings.map(\.until) + [worst < tracker.level ? tracker.fallsAt : nil]).compactMap { $0 }.min()
    }
}
