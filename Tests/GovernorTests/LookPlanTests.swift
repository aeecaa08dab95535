import Governor
import Synchronization
import Testing

@Suite("When the sources are asked")
struct LookPlanTests {
    /// Looked at 100 s, when all was calm and nobody was there.
    private func plan(
        level: PressureLevel = .nominal, triggers: Bool = true, _ change: (inout LookPlan) -> Void = { _ in }
    ) -> LookPlan {
        var plan = LookPlan(interval: 0.25)
        plan.isAsked = false
        plan.lookedAt = 100
        plan.hasTriggers = triggers
        plan.level = level
        change(&plan)
        return plan
    }

    @Test("With nothing loaded and nobody there it is not looked at all, whatever the level")
    func nothing() {
        #expect(plan().next == nil && plan(triggers: false).next == nil)
        #expect(plan(level: .critical).next == nil)
    }

    @Test("While a request or subscription is open, and a moment after the last, looks go on a few times a second")
    func requests() {
        #expect(plan { $0.open = 1 }.next == 100.25)
        #expect(plan { $0.closedAt = 100 - LookPlan.tail + 0.1 }.next == 100.25)
        #expect(plan { $0.closedAt = 100 - LookPlan.tail }.next == nil)
        // It slept meanwhile: the look is due at once.
        #expect(plan { $0.closedAt = 500 }.next == 100.25)
    }

    @Test("Who asks is answered at once")
    func asked() { #expect(plan { $0.isAsked = true }.next == -.infinity) }

    @Test("With a model that could give or take, it is now and then; more often where the kernel wakes nobody")
    func loaded() {
        for path in [\LookPlan.outlook.canGive, \LookPlan.outlook.canGrow] {
            #expect(plan { $0[keyPath: path] = true }.next == 100 + LookPlan.slow.triggers)
            #expect(plan(triggers: false) { $0[keyPath: path] = true }.next == 100 + LookPlan.slow.none)
        }
    }

    @Test("What time alone changes is looked at in that moment, and never in a loop")
    func moments() {
        #expect(plan { $0.outlook.moment = 107 }.next == 107)
        #expect(plan { $0.changesAt = 103 }.next == 103)
        #expect(
            plan {
                $0.outlook.canGive = true
                $0.outlook.moment = 1900
            }.next == 115)
        #expect(plan { $0.outlook.moment = 99 }.next == 100.25)
    }

    @Test("Under pressure looks go on a few times a second as long as there is something to give")
    func pressure() {
        #expect(plan(level: .warning) { $0.outlook.canGive = true }.next == 100.25)
        let given = plan(level: .warning) {
            $0.outlook.canGrow = true
            $0.changesAt = 105
        }
        #expect(given.next == 105)
    }

    @Test("What is being made, and what the kernel has told, is followed closely")
    func closely() {
        #expect(plan { $0.outlook.isMoving = true }.next == 100.25)
        let stirred = plan {
            $0.outlook.canGive = true
            $0.stirredAt = 99
        }
        #expect(stirred.next == 100.25)
        #expect(plan { $0.stirredAt = 99 }.next == nil)
    }
}

@Suite("The monitor")
struct MonitorTests {
    /// Says what a test tells it, and wakes nobody.
    private final class Script: PressureSource {
        let name = "script"
        let level = Mutex(PressureLevel.nominal)
        func read() -> PressureReading { PressureReading(level: level.withLock { $0 }, text: "as the test says") }
    }

    @Test("Who waits for a look gets what the sources say now, although the monitor sleeps for good")
    func look() async throws {
        let script = Script()
        let monitor = PressureMonitor(sources: [script], attention: Attention(interval: 3600), dwell: 5) { _ in }
        try #require(monitor.start())
        await monitor.look()
        #expect(monitor.view.level == .nominal && monitor.view.isQuiet)
        script.level.withLock { $0 = .critical }
        await monitor.look()
        #expect(monitor.view.level == .critical)
        monitor.stop()
        // Nobody would answer.
        await monitor.look()
    }

    @Test("A request that begins wakes the monitor, and keeps it awake")
    func requests() async throws {
        let looks = Atomic<Int>(0)
        let attention = Attention(interval: 0.001)
        let monitor = PressureMonitor(sources: [Script()], attention: attention, dwell: 5) { _ in
            looks.add(1, ordering: .relaxed)
        }
        try #require(monitor.start())
        defer { monitor.stop() }
        await monitor.look()
        attention.begin()
        let before = looks.load(ordering: .relaxed)
        for _ in 0..<300_000 where looks.load(ordering: .relaxed) < before + 10 {
            try await Task.sleep(for: .milliseconds(1))
        }
        #expect(looks.load(ordering: .relaxed) >= before + 10 && !monitor.view.isQuiet)
        attention.end()
    }

    @Test("What a loaded model waits for wakes the monitor, and not before its moment")
    func moment() async throws {
        let looks = Mutex<[Double]>([])
        let attention = Attention(interval: 0.001)
        let monitor = PressureMonitor(sources: [Script()], attention: attention, dwell: 5) { _ in
            looks.withLock { $0.append(MonotonicClock.now()) }
        }
        try #require(monitor.start())
        defer { monitor.stop() }
        await monitor.look()
        var outlook = LookPlan.Outlook()
        let moment = MonotonicClock.now() + 0.3
        outlook.moment = moment
        attention.expect(outlook)
        let before = looks.withLock { $0.count }
        for _ in 0..<300_000 where looks.withLock({ $0.count }) == before {
            try await Task.sleep(for: .milliseconds(1))
        }
        #expect(looks.withLock { $0.count > before && $0[before] >= moment })
    }
}
