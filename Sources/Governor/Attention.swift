import CEbbSystem
import Glibc
import Synchronization

/// What the monitor sleeps by: everybody tells here what would make it look sooner. Used from every thread.
public final class Attention: Sendable {
    private struct State {
        var plan: LookPlan
        /// Until when the monitor sleeps: infinity for ever, minus infinity while it is awake.
        var sleepsUntil = -Double.infinity
    }

    private let state: Mutex<State>
    /// Ready when the monitor should plan anew.
    let bell: Int32

    /// Seconds that are not worth a wake-up.
    private static let grain = 0.001

    /// - Parameter interval: seconds between two looks while something goes on.
    public init(interval: Double) {
        state = Mutex(State(plan: LookPlan(interval: interval)))
        bell = ebb_eventfd()
    }

    deinit { if bell >= 0 { close(bell) } }

    /// A request or subscription begins: until it has been answered, looks go on a few times a second.
    public func begin() { change { $0.open += 1 } }

    /// It has been answered.
    public func end() {
        let now = MonotonicClock.now()
        change {
            $0.open -= 1
            if $0.open == 0 { $0.closedAt = now }
        }
    }

    /// Has the sources asked at once.
    public func ask() { change { $0.isAsked = true } }

    /// What the loaded models want.
    public func expect(_ outlook: LookPlan.Outlook) { change { $0.outlook = outlook } }

    public func isQuiet(now: Double) -> Bool { state.withLock { $0.plan.isQuiet(now: now) } }

    /// Wakes the monitor if the change has it look sooner than it meant to.
    private func change(_ body: (inout LookPlan) -> Void) {
        let rings = state.withLock { state in
            body(&state.plan)
            guard let next = state.plan.next, next < state.sleepsUntil - Self.grain else { return false }
            state.sleepsUntil = -.infinity
            return true
        }
        if rings { ring() }
    }

    /// Has the monitor wake up and plan anew.
    func ring() {
        var one: UInt64 = 1
        _ = write(bell, &one, 8)
    }

    // MARK: The monitor's side

    /// Seconds that it may sleep, infinity for ever; nil when a look is due.
    func sleep(now: Double) -> Double? {
        state.withLock { state in
            let next = state.plan.next ?? .infinity
            guard next > now else { return nil }
            state.sleepsUntil = next
            return next - now
        }
    }

    /// It is awake.
    /// - Parameter isStirred: whether the kernel woke it.
    func wake(isStirred: Bool, now: Double) {
        state.withLock { state in
            state.sleepsUntil = -.infinity
            if isStirred { state.plan.stirredAt = now }
        }
    }

    /// A look begins.
    /// - Returns: whether somebody waits for it.
    func beginLook(now: Double) -> Bool {
        state.withLock { state in
            state.plan.lookedAt = now
            defer { state.plan.isAsked = false }
            return state.plan.isAsked
        }
    }

    /// It has found this.
    func endLook(level: PressureLevel, changesAt: Double?, hasTriggers: Bool) {
        state.withLock { state in
            state.plan.level = level
            state.plan.changesAt = changesAt
            state.plan.hasTriggers = hasTriggers
        }
    }
}
