import Governor
import Testing

@Suite("Levels")
struct LevelTests {
    @Test("The level rises at once and falls a step at a time, after calm")
    func riseAndFall() {
        var tracker = LevelTracker(dwell: 5)
        tracker.update([.nominal, .critical], now: 0)
        #expect(tracker.level == .critical && tracker.fallsAt == 5)
        tracker.update([.nominal], now: 4.9)
        #expect(tracker.level == .critical)
        tracker.update([.nominal], now: 5)
        #expect(tracker.level == .warning)
        tracker.update([.nominal], now: 9)
        #expect(tracker.level == .warning)
        tracker.update([.nominal], now: 10)
        #expect(tracker.level == .nominal)
        #expect(tracker.phaseSince == 10)
    }

    @Test(
        "A square wave of pressure moves the level at most once a dwell time",
        arguments: [0.1, 0.5, 1, 2, 4, 6, 9, 12, 30])
    func squareWave(period: Double) {
        var tracker = LevelTracker(dwell: 5)
        var falls: [Double] = []
        var now = 0.0
        while now < 300 {
            let before = tracker.level
            let high = now.truncatingRemainder(dividingBy: period) < period / 2
            tracker.update([high ? .warning : .nominal], now: now)
            if tracker.level < before { falls.append(now) }
            now += 0.05
        }
        for (a, b) in zip(falls, falls.dropFirst()) { #expect(b - a >= 5) }
    }

    @Test("Two levels in turn stay at the higher one")
    func alternating() {
        var tracker = LevelTracker(dwell: 5)
        for tick in 0..<100 { tracker.update([tick % 2 == 0 ? .critical : .warning], now: Double(tick)) }
        #expect(tracker.level == .critical)
    }

    @Test("A source that is unknown leaves the level to the others, and there is no calm meanwhile")
    func unknown() {
        var tracker = LevelTracker(dwell: 5)
        tracker.update([.nominal, nil], now: 8)
        #expect(tracker.level == .nominal && !tracker.isSure && tracker.phaseSince == 8)
        tracker.update([nil, nil], now: 9)
        #expect(tracker.level == .nominal && tracker.phaseSince == 9)
        tracker.update([.warning, nil], now: 10)
        #expect(tracker.level == .warning && tracker.phaseSince == 10)
        tracker.update([.nominal, nil], now: 20)
        tracker.update([.nominal, .nominal], now: 21)
        // Calm counts from the last doubt.
        #expect(tracker.level == .nominal && tracker.isSure && tracker.phaseSince == 20)
        tracker.update([.nominal, .nominal], now: 30)
        #expect(tracker.phaseSince == 20)
    }
}
