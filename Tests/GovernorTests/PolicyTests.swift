import Governor
import Testing

@Suite("The policy")
struct PolicyTests {
    private static let mib = 1 << 20
    private let policy = Policy(budget: 100 * mib, reserve: 48 * mib, calmBeforeGrowth: 10, dwell: 5)

    private func model(
        _ wish: ModelState.Wish = .auto, layers: Int = 10, expanded: Int = 0, active: Bool = false, idle: Double = 0,
        preference: ModelState.Preference = .accuracy, priority: Int = 0
    ) -> ModelState {
        let layers = (0..<layers).map { ModelState.Unit(bytes: 5 * Self.mib, isExpanded: $0 < expanded) }
        return ModelState(
            name: "m", wish: wish, preference: preference, priority: priority, units: layers, isActive: active,
            idle: idle)
    }

    private func situation(
        _ level: PressureLevel = .nominal, calm: Double = 60, strained: Double = 0, available: Int = 1000 * mib,
        peak: Int = 0, other: Int = 0
    ) -> Situation {
        Situation(
            level: level, calm: level == .nominal ? calm : 0, strained: strained, available: available, peak: peak,
            otherBytes: other)
    }

    private func count(_ models: [ModelState], _ situation: Situation) -> [Int] {
        policy.decide(situation, models).expanded.map { $0.count { $0 } }
    }

    @Test("With room for all layers, all are expanded")
    func expandsAll() { #expect(count([model()], situation()) == [10]) }

    @Test("With memory for 60 % of the layers, 60 % are expanded")
    func partly() {
        // The reserve, an eighth of it to spare, and 30 MiB.
        #expect(count([model()], situation(available: (48 + 6 + 30) * Self.mib)) == [6])
    }

    @Test("What else Ebb holds counts against the budget")
    func budgetIsForAll() { #expect(count([model()], situation(other: 80 * Self.mib)) == [4]) }

    @Test("Nothing grows before it has been calm for long enough")
    func waits() {
        #expect(count([model()], situation(calm: 9)) == [0])
        #expect(count([model(expanded: 4)], situation(calm: 0)) == [4])
    }

    @Test("Nothing grows while a source is unknown, and nothing goes for it")
    func unknownSource() {
        var unsure = situation()
        unsure.isSure = false
        #expect(count([model(expanded: 4)], unsure) == [4])
        var eager = policy
        eager.calmBeforeGrowth = 0
        #expect(eager.decide(unsure, [model(expanded: 4)]).expanded[0].count { $0 } == 4)
    }

    @Test("Less available than the reserve gives layers back without any pressure")
    func reserveIsKept() {
        #expect(count([model(expanded: 10)], situation(available: 38 * Self.mib)) == [8])
    }

    @Test("At critical nothing stays expanded, at warning half of it, and half of that with each further dwell time")
    func shrinks() {
        let all = [model(expanded: 10, active: true)]
        #expect(count(all, situation(.critical, peak: 50 * Self.mib)) == [0])
        #expect(count(all, situation(.warning, peak: 50 * Self.mib)) == [5])
        #expect(count([model(expanded: 5)], situation(.warning, strained: 4, peak: 50 * Self.mib)) == [5])
        #expect(count([model(expanded: 5)], situation(.warning, strained: 5, peak: 50 * Self.mib)) == [2])
        #expect(count([model(expanded: 2)], situation(.warning, strained: 20, peak: 50 * Self.mib)) == [0])
    }

    @Test("An idle model gives way before an active one, and a lower priority before a higher")
    func order() {
        let peak = situation(.warning, peak: 100 * Self.mib)
        #expect(count([model(expanded: 10), model(expanded: 10, active: true)], peak) == [0, 10])
        #expect(count([model(expanded: 10), model(expanded: 10, priority: 1)], peak) == [0, 10])
    }

    @Test("The layers that gain most for a byte are expanded first")
    func gainFirst() {
        var state = model(layers: 4)
        for (layer, gain) in [1.0, 8, 2, 8].enumerated() { state.units[layer].gain = gain }
        state.units[3].bytes = 40 * Self.mib
        let wanted = policy.decide(situation(available: (48 + 6 + 10) * Self.mib), [state]).expanded[0]
        #expect(wanted == [false, true, true, false])
    }

    // MARK: Experts

    /// A model of experts of equal size that gain as much as they are used.
    private func mixture(_ heats: [Double], expanded: Set<Int> = []) -> ModelState {
        let units = heats.enumerated().map {
            ModelState.Unit(bytes: 5 * Self.mib, gain: $1, isExpanded: expanded.contains($0))
        }
        return ModelState(name: "m", units: units, isActive: true)
    }

    /// Memory for so many experts.
    private func roomFor(_ experts: Int, beside expanded: Int = 0) -> Situation {
        situation(available: (48 + 6 + 5 * (experts - expanded)) * Self.mib)
    }

    @Test("What grows is named with the most deserving first")
    func hotFirst() {
        let decision = policy.decide(roomFor(3), [mixture([0.1, 0.4, 0.2, 0.3])])
        #expect(decision.expanded == [[false, true, true, true]])
        #expect(decision.growth.map(\.unit) == [1, 3, 2])
        let pinned = policy.decide(situation(), [mixture([0.9]), model(.dequantized, layers: 2, expanded: 1)])
        #expect(pinned.growth.map { [$0.model, $0.unit] } == [[1, 1], [0, 0]])
    }

    @Test("An expert that is used more than twice as much takes the place of one that is used less, a pair at a time")
    func exchange() {
        let full = roomFor(2, beside: 2)
        let cold = mixture([0.05, 0.05, 0.5, 0.4], expanded: [0, 1])
        #expect(policy.decide(full, [cold]).expanded == [[true, false, true, false]])
        #expect(policy.decide(full, [cold]).growth.map { [$0.model, $0.unit] } == [[0, 2]])
        // The next pair when the first is done.
        let growing = mixture([0.05, 0.05, 0.5, 0.4], expanded: [0])
        #expect(policy.decide(roomFor(2, beside: 1), [growing]).expanded == [[true, false, true, false]])
        let half = mixture([0.05, 0.05, 0.5, 0.4], expanded: [0, 2])
        #expect(policy.decide(full, [half]).expanded == [[false, false, true, true]])
        #expect(policy.decide(full, [mixture([0.2, 0.2, 0.39, 0.3], expanded: [0, 1])]).growth.isEmpty)
    }

    @Test("Nothing changes places before it has been calm for long, with what was just taken, or between models")
    func noExchange() {
        let cold = mixture([0.05, 0.9], expanded: [0])
        var early = roomFor(1, beside: 1)
        early.calm = 9
        #expect(policy.decide(early, [cold]).expanded == [[true, false]])
        var taken = cold
        taken.units[1].sinceDrop = 9
        #expect(policy.decide(roomFor(1, beside: 1), [taken]).expanded == [[true, false]])
        let others = [mixture([0.05], expanded: [0]), mixture([0.9])]
        #expect(policy.decide(roomFor(1, beside: 1), others).expanded == [[true], [false]])
    }

    @Test(
        "Experts whose use changes at any period change places at most once in two dwell times",
        arguments: [0.5, 3, 9, 21, 60])
    func exchangesRest(period: Double) {
        var state = mixture([0, 0, 0, 0, 0, 0, 0, 0], expanded: [0, 1, 2, 3])
        var moves = [[Double]](repeating: [], count: 8)
        var now = 0.0
        while now < 300 {
            let isSecond = now.truncatingRemainder(dividingBy: period) >= period / 2
            for unit in state.units.indices { state.units[unit].gain = (unit < 4) != isSecond ? 0.24 : 0.01 }
            let free = 4 - state.units.count(where: \.isExpanded)
            let wanted = policy.decide(situation(available: (48 + 6 + 5 * free) * Self.mib), [state]).expanded[0]
            for unit in wanted.indices where wanted[unit] != state.units[unit].isExpanded {
                if wanted[unit] { moves[unit].append(now) } else { state.units[unit].sinceDrop = 0 }
                state.units[unit].isExpanded = wanted[unit]
            }
            now += 0.1
            for unit in state.units.indices { state.units[unit].sinceDrop += 0.1 }
        }
        for times in moves {
            for (a, b) in zip(times, times.dropFirst()) { #expect(b - a >= 2 * policy.dwell) }
        }
        #expect(moves.contains { !$0.isEmpty })
    }

    @Test("Preferences: memory never expands, speed only where the probe measured it as faster")
    func preferences() {
        var fast = model(preference: .speed)
        #expect(count([model(preference: .memory), fast], situation()) == [0, 0])
        fast.isFasterExpanded = true
        #expect(count([fast], situation()) == [10])
    }

    @Test("Pins hold at every level", arguments: PressureLevel.allCases)
    func pins(level: PressureLevel) {
        let models = [model(.dequantized, idle: 1e9), model(.memoryLow, expanded: 3)]
        #expect(count(models, situation(level, available: 0)) == [10, 0])
    }

    @Test("What is given up, in order: prefixes, expansions, KV precision, idle models, loads")
    func orderOfGivingUp() {
        let models = [model(expanded: 10, active: true), model(layers: 0, idle: 30)]
        let calm = policy.decide(situation(), models)
        #expect(!calm.dropsPrefixes && !calm.compactsKV && !calm.refusesLoads && calm.parked == [false, false])
        let first = policy.decide(situation(.warning, peak: 50 * Self.mib), models)
        #expect(first.dropsPrefixes && !first.compactsKV && !first.refusesLoads && first.parked == [false, false])
        let later = policy.decide(situation(.warning, strained: 30, peak: 50 * Self.mib), models)
        #expect(later.compactsKV && !later.refusesLoads && later.parked == [false, true])
        let worst = policy.decide(situation(.critical, peak: 50 * Self.mib), models)
        #expect(worst.compactsKV && worst.refusesLoads && worst.parked == [false, true])
    }

    @Test("A model that nobody has used for the idle time is parked, unless it is pinned to dequantized")
    func parksIdle() {
        let models = [model(expanded: 3, idle: 1799), model(expanded: 3, idle: 1800), model(.dequantized, idle: 1e6)]
        let decision = policy.decide(situation(), models)
        #expect(decision.parked == [false, true, false] && !decision.expanded[1].contains(true))
    }

    // MARK: Properties, over some thousand random situations

    private func situations(_ body: (Situation, [ModelState]) -> Void) {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<3000 {
            let models = (0..<Int.random(in: 0...4, using: &random)).map { _ in randomModel(&random) }
            let level = PressureLevel.allCases.randomElement(using: &random) ?? .nominal
            body(
                Situation(
                    level: level, isSure: Bool.random(using: &random),
                    calm: level == .nominal ? Double.random(in: 0...30, using: &random) : 0,
                    strained: level == .nominal ? 0 : Double.random(in: 0...30, using: &random),
                    available: Int.random(in: -20 * Self.mib...(200 * Self.mib), using: &random),
                    peak: Int.random(in: 0...(300 * Self.mib), using: &random),
                    otherBytes: Int.random(in: 0...(120 * Self.mib), using: &random)), models)
        }
    }

    private func randomModel(_ random: inout SystemRandomNumberGenerator) -> ModelState {
        let layers = (0..<Int.random(in: 1...20, using: &random)).map { _ in
            ModelState.Unit(
                bytes: Int.random(in: 0...(20 * Self.mib), using: &random),
                gain: Double.random(in: 0...1, using: &random),
                isExpanded: Bool.random(using: &random), sinceDrop: Double.random(in: 0...40, using: &random))
        }
        return ModelState(
            name: "m", wish: [.auto, .auto, .memoryLow].randomElement(using: &random) ?? .auto,
            preference: ModelState.Preference.allCases.randomElement(using: &random) ?? .accuracy,
            priority: Int.random(in: -1...1, using: &random), units: layers,
            isFasterExpanded: Bool.random(using: &random), isActive: Bool.random(using: &random),
            idle: Double.random(in: 0...3000, using: &random))
    }

    private func bytes(_ models: [ModelState], _ wanted: [[Bool]]) -> Int {
        zip(models, wanted).reduce(0) { $0 + zip($1.0.units, $1.1).reduce(0) { $0 + ($1.1 ? $1.0.bytes : 0) } }
    }

    @Test("It never goes over the budget")
    func neverOverBudget() {
        situations { situation, models in
            let expanded = bytes(models, policy.decide(situation, models).expanded)
            #expect(expanded <= max(0, policy.budget - situation.otherBytes))
        }
    }

    @Test("Less memory never means more expanded bytes")
    func monotoneInMemory() {
        situations { situation, models in
            var less = situation
            less.available -= Int.random(in: 0...(60 * Self.mib))
            #expect(
                bytes(models, policy.decide(less, models).expanded)
                    <= bytes(models, policy.decide(situation, models).expanded))
        }
    }

    @Test("At a level that is not nominal, or while a source is unknown, nothing new is expanded")
    func noGrowthUnderPressure() {
        situations { situation, models in
            guard situation.level > .nominal || !situation.isSure else { return }
            for (model, layers) in zip(models, policy.decide(situation, models).expanded) {
                for (layer, will) in zip(model.units, layers) { #expect(layer.isExpanded || !will) }
            }
        }
    }

    @Test("Growth leaves the reserve untouched")
    func growthKeepsReserve() {
        situations { situation, models in
            let growth =
                bytes(models, policy.decide(situation, models).expanded) - models.reduce(0) { $0 + $1.expandedBytes }
            #expect(growth <= 0 || situation.available - growth >= policy.reserve)
        }
    }

    /// A simulated model under a square wave of pressure, as the engine carries decisions out: times of each layer's
    /// moves.
    private func moves(period: Double, level: PressureLevel) -> [[(time: Double, expands: Bool)]] {
        var tracker = LevelTracker(dwell: policy.dwell)
        var state = model(expanded: 10, active: true)
        var moves = [[(time: Double, expands: Bool)]](repeating: [], count: 10)
        var (peak, now) = (0, 0.0)
        while now < 600 {
            let high = now.truncatingRemainder(dividingBy: period) < period / 2
            tracker.update([high ? level : .nominal], now: now)
            let since = now - tracker.phaseSince
            if tracker.level == .nominal { peak = state.expandedBytes }
            let wanted = policy.decide(
                Situation(
                    level: tracker.level, calm: tracker.level == .nominal ? since : 0,
                    strained: tracker.level == .nominal ? 0 : since, available: 1000 * Self.mib, peak: peak), [state]
            ).expanded[0]
            for layer in wanted.indices where wanted[layer] != state.units[layer].isExpanded {
                moves[layer].append((now, wanted[layer]))
                state.units[layer].isExpanded = wanted[layer]
                if !wanted[layer] { state.units[layer].sinceDrop = 0 }
            }
            now += 0.1
            for layer in state.units.indices { state.units[layer].sinceDrop += 0.1 }
        }
        return moves
    }

    @Test(
        "A square wave of pressure at any period moves a layer at most once a dwell time",
        arguments: [0.2, 1, 3, 7, 11, 14, 16, 21, 25, 31, 45, 90], [PressureLevel.warning, .critical])
    func noFlapping(period: Double, level: PressureLevel) {
        for layer in moves(period: period, level: level) {
            #expect(Double(layer.count) <= 600 / policy.dwell + 1)
            for direction in [true, false] {
                let times = layer.filter { $0.expands == direction }.map(\.time)
                for (a, b) in zip(times, times.dropFirst()) { #expect(b - a >= 2 * policy.dwell) }
            }
        }
    }

    // MARK: When to decide again

    private func outlook(_ models: ModelState..., situation: Situation? = nil) -> LookPlan.Outlook {
        policy.outlook(situation ?? self.situation(), models, now: 1000)
    }

    @Test("A model that is loaded is looked after until the moment at which it is parked, and then no more")
    func outlookOfParking() {
        let idle = outlook(model(expanded: 10, idle: 300))
        #expect(idle.canGive && !idle.canGrow && idle.moment == 1000 + 1500)
        var parked = model(idle: 1800)
        parked.isParked = true
        #expect(outlook(parked) == LookPlan.Outlook())
        parked.keepsPrefixes = true
        #expect(outlook(parked).canGive)
    }

    @Test("What is left to expand is looked after: when it has been calm, when a layer may come back, then for room")
    func outlookOfGrowth() {
        let early = outlook(model(expanded: 4), situation: situation(calm: 3))
        #expect(early.canGrow && early.moment == 1000 + 7)
        var taken = model(expanded: 9)
        taken.units[9].sinceDrop = 4
        #expect(outlook(taken).moment == 1006)
        let late = outlook(model(expanded: 4))
        #expect(late.canGrow && late.moment == 1000 + 1800)
        #expect(!outlook(model(preference: .memory)).canGrow)
        // Under pressure nothing grows, whatever time it is; one that was parked for it comes back.
        var parked = model()
        parked.isParked = true
        let pressed = outlook(parked, situation: situation(.warning))
        #expect(pressed.canGrow && !pressed.canGive && pressed.moment == nil)
    }

    @Test("A model that is pinned gives nothing, and is looked after until all is expanded")
    func outlookOfPins() {
        #expect(outlook(model(.dequantized, expanded: 10)) == LookPlan.Outlook())
        #expect(outlook(model(.dequantized, expanded: 4, idle: 4000)).canGrow)
    }
}
